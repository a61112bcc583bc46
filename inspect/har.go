package inspect

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"
)

// The structures of HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/). What is not known is -1 there.

type harCreator struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type harEntry struct {
	Started    time.Time   `json:"startedDateTime"`
	Time       float64     `json:"time"`
	Request    harRequest  `json:"request"`
	Response   harResponse `json:"response"`
	Cache      struct{}    `json:"cache"`
	Timings    harTimings  `json:"timings"`
	Connection string      `json:"connection,omitempty"`
	Comment    string      `json:"comment,omitempty"`
}

type harRequest struct {
	Method      string      `json:"method"`
	URL         string      `json:"url"`
	HTTPVersion string      `json:"httpVersion"`
	Cookies     []harPair   `json:"cookies"`
	Headers     []harPair   `json:"headers"`
	QueryString []harPair   `json:"queryString"`
	PostData    *harContent `json:"postData,omitempty"`
	HeadersSize int         `json:"headersSize"`
	BodySize    int64       `json:"bodySize"`
}

type harResponse struct {
	Status      int        `json:"status"`
	StatusText  string     `json:"statusText"`
	HTTPVersion string     `json:"httpVersion"`
	Cookies     []harPair  `json:"cookies"`
	Headers     []harPair  `json:"headers"`
	Content     harContent `json:"content"`
	RedirectURL string     `json:"redirectURL"`
	HeadersSize int        `json:"headersSize"`
	BodySize    int64      `json:"bodySize"`
}

// harContent is a request's, which has a list of parameters, or a response's, which has a size.
type harContent struct {
	Size     *int64    `json:"size,omitempty"`
	MimeType string    `json:"mimeType"`
	Params   []harPair `json:"params,omitempty"`
	Text     string    `json:"text"`
	Encoding string    `json:"encoding,omitempty"`
	Comment  string    `json:"comment,omitempty"`
}

type harPair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type harTimings struct {
	Blocked float64 `json:"blocked"`
	DNS     float64 `json:"dns"`
	Connect float64 `json:"connect"`
	Send    float64 `json:"send"`
	Wait    float64 `json:"wait"`
	Receive float64 `json:"receive"`
	SSL     float64 `json:"ssl"`
}

// WriteHAR writes requests as an archive that browsers' tools open, as their clients have seen them. Each is found when
// it is its turn, as all of them may be more than should be in memory twice; nil is left out.
func WriteHAR(w io.Writer, version string, all iter.Seq[*Request]) error {
	creator, err := json.Marshal(harCreator{"padlock", version})
	if err == nil {
		_, err = fmt.Fprintf(w, "{\"log\": {\"version\": \"1.2\", \"creator\": %s, \"entries\": [", creator)
	}
	between := "\n"
	for r := range all {
		if r == nil || err != nil {
			continue
		}
		var text []byte
		if text, err = json.Marshal(harOf(r)); err == nil {
			_, err = fmt.Fprintf(w, "%s%s", between, text)
		}
		between = ",\n"
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n]}}\n")
	return err
}

func harOf(r *Request) harEntry {
	e := harEntry{
		Started: r.Start, Time: ms(r.Duration), Timings: harTimes(r), Comment: r.Error,
		Request: harRequest{
			Method: r.Method, URL: r.URL(), HTTPVersion: r.Proto, Headers: harHeaders(r.Received, r.Host), QueryString: harQuery(r.Target),
			Cookies: harCookies(r.Received), HeadersSize: -1, BodySize: r.In.Size,
		},
		Response: harResponse{
			Status: r.Status, StatusText: http.StatusText(r.Status), HTTPVersion: r.Proto, Headers: harHeaders(r.Response, ""), Cookies: harSetCookies(r.Response),
			Content: harBody(r.Response, &r.Out), RedirectURL: Value(r.Response, "Location"), HeadersSize: -1, BodySize: r.Out.Size,
		},
	}
	e.Response.Content.Size = &r.Out.Size
	if r.In.Size > 0 {
		body := harBody(r.Received, &r.In)
		if isForm(r.Received) && !r.In.Cut {
			for _, pair := range formPairs(string(r.In.Data)) {
				body.Params = append(body.Params, harPair{pair.Name, pair.Value})
			}
		}
		e.Request.PostData = &body
	}
	return e
}

func harHeaders(fields []Field, host string) []harPair {
	pairs := []harPair{}
	if host != "" {
		pairs = append(pairs, harPair{"Host", host})
	}
	for _, f := range fields {
		pairs = append(pairs, harPair{f.Name, f.Value})
	}
	return pairs
}

func harQuery(target string) []harPair {
	pairs := []harPair{}
	if _, query, ok := strings.Cut(target, "?"); ok && query != "" {
		for _, pair := range formPairs(query) {
			pairs = append(pairs, harPair{pair.Name, pair.Value})
		}
	}
	return pairs
}

func harCookies(fields []Field) []harPair {
	pairs := []harPair{}
	for _, f := range fields {
		if !equal(f.Name, "Cookie") {
			continue
		}
		for pair := range strings.SplitSeq(f.Value, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			pairs = append(pairs, harPair{name, value})
		}
	}
	return pairs
}

func harSetCookies(fields []Field) []harPair {
	pairs := []harPair{}
	for _, f := range fields {
		if equal(f.Name, "Set-Cookie") {
			pair, _, _ := strings.Cut(f.Value, ";")
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			pairs = append(pairs, harPair{name, value})
		}
	}
	return pairs
}

// harBody is content without its coding, as browsers write it.
func harBody(fields []Field, c *Content) harContent {
	h := harContent{MimeType: Value(fields, "Content-Type")}
	if h.MimeType == "" {
		h.MimeType = "application/octet-stream"
	}
	data := c.Data
	if coding := coded(fields); coding != "" && !c.Decoded {
		if plain, _ := decode(coding, data); len(plain) > 0 {
			data = plain
		}
	}
	if c.Cut {
		h.Comment = "only the beginning was remembered"
	}
	if h.Text = string(data); !Readable(data) {
		h.Text, h.Encoding = base64.StdEncoding.EncodeToString(data), "base64"
	}
	return h
}

// harTimes add up to the whole.
func harTimes(r *Request) harTimings {
	t := harTimings{Blocked: -1, DNS: -1, Connect: -1, SSL: -1}
	whole := ms(r.Duration)
	head := ms(r.FirstByte)
	if head == 0 {
		head = whole
	}
	t.Receive = max(0, whole-head)
	if len(r.Tries) > 0 {
		last := r.Tries[len(r.Tries)-1]
		t.Blocked = min(ms(last.At), head)
		if last.Connect+last.TLS > 0 {
			t.Connect = min(ms(last.Connect+last.TLS), head-t.Blocked)
		}
		if last.TLS > 0 {
			t.SSL = min(ms(last.TLS), t.Connect)
		}
	}
	t.Wait = max(0, head-max(0, t.Blocked)-max(0, t.Connect))
	return t
}
