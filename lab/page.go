package lab

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed page.html page.css page.js
var files embed.FS

var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page.html").ParseFS(files, "page.html"))
})

// servePage serves the page of the lab. Only a client that asks for its name by SNI comes here.
func (l *Lab) servePage(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	own := "https://*." + Domain + ":" + l.port + " https://lab-wildcard.localhost:" + l.port + " " + l.addressSource()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self' "+own+"; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	if host, _, err := net.SplitHostPort(r.Host); err == nil && host != Domain || err != nil && r.Host != Domain {
		http.Error(w, "this is "+Domain, http.StatusMisdirectedRequest)
		return
	}
	// The script alone posts: another site's page must not write verdicts.
	post := r.Method == http.MethodPost
	if post != (r.URL.Path == "/judge" || r.URL.Path == "/begin") || !post && r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "POST is for /begin and /judge, and GET and HEAD are for all else", http.StatusMethodNotAllowed)
		return
	}
	if err := new(http.CrossOriginProtection).Check(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}

	switch r.URL.Path {
	case "/":
		l.pageHTML(w)
	case "/page.css":
		l.file(w, "page.css", "text/css; charset=utf-8")
	case "/page.js":
		l.file(w, "page.js", "text/javascript; charset=utf-8")
	case "/root.pem":
		h.Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(l.Root())
	case "/events":
		l.events(w, r)
	case "/story":
		l.storyOf(w, r)
	case "/now":
		l.now(w)
	case "/begin":
		l.beginBrowser(w)
	case "/judge":
		l.judgeBrowser(w, r)
	case "/results":
		l.browserResults(w)
	default:
		http.NotFound(w, r)
	}
}

// addressSource is the endpoint without a name in a policy, where an address of IPv6 cannot stand (CSP3 section 2.3.1).
func (l *Lab) addressSource() string {
	if strings.Contains(l.Address(), ":") {
		return "https:"
	}
	return "https://" + net.JoinHostPort(l.Address(), l.port)
}

func (l *Lab) file(w http.ResponseWriter, name, kind string) {
	data, err := files.ReadFile(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(data)
}

type pageGroup struct {
	Name      Group
	Endpoints []pageEndpoint
}

type pageEndpoint struct {
	*Endpoint
	URL   string
	Basis string // the endpoint without the fault; "": none
	Waits bool   // for as long as the client does
}

func (l *Lab) pageHTML(w http.ResponseWriter) {
	var groups []pageGroup
	for _, e := range l.endpoints {
		if len(groups) == 0 || groups[len(groups)-1].Name != e.Group {
			groups = append(groups, pageGroup{Name: e.Group})
		}
		last := &groups[len(groups)-1]
		last.Endpoints = append(last.Endpoints, pageEndpoint{e, l.URL(e), e.basis, e.proof == ByEnd})
	}

	var b bytes.Buffer
	err := pageTemplate().Execute(&b, struct {
		Groups []pageGroup
		Count  int
		Port   string
	}{groups, len(l.endpoints), l.port})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

// live is a visit as the page shows it.
type live struct {
	Endpoint string  `json:"endpoint"`
	ID       uint64  `json:"id"`
	Time     string  `json:"time"`
	Text     string  `json:"text"`
	Verdict  Verdict `json:"verdict"` // "": none
	Agent    string  `json:"agent"`
}

// livePause is the least time between two events.
const livePause = 200 * time.Millisecond

// events streams the last visit of each endpoint whenever it changes.
func (l *Lab) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	sent := map[string]live{}
	count := uint64(0)
	for {
		list, now, changed := l.visits.since(count)
		count = now
		last := map[string]live{}
		for _, v := range list {
			if e := l.named(v.Endpoint); e != nil {
				last[v.Endpoint] = e.live(&v)
			}
		}
		for name, v := range last {
			if sent[name] == v {
				continue
			}
			sent[name] = v
			data, err := json.Marshal(v)
			if err == nil {
				_, err = fmt.Fprintf(w, "data: %s\n\n", data)
			}
			if err != nil {
				return
			}
		}
		if flush.Flush() != nil {
			return
		}

		select {
		case <-r.Context().Done():
			return
		case <-changed:
			time.Sleep(livePause) // many changes become one event
		}
	}
}

func (l *Lab) named(name string) *Endpoint {
	for _, e := range l.endpoints {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// live says what a visit shows by itself. Its verdict is judge's of a client of which nothing else is known.
func (e *Endpoint) live(v *Visit) live {
	out := live{Endpoint: e.Name, ID: v.ID, Time: v.Start.Format("15:04:05"), Agent: v.Agent}
	switch {
	case v.Unsuited != "":
		out.Text = v.Unsuited
	case v.Data:
		out.Text = "sent its request"
	case v.Open:
		out.Text = "connected"
		return out
	case v.Alert != "":
		out.Text = "refused: " + v.Alert
	default:
		out.Text = "ended without a request"
	}

	r := judge(e, []Visit{*v}, Outcome{}, calibration{mute: "nobody has told it"})
	compare(map[string]*Result{e.Name: &r})
	// A client may do as it likes here, or only its own end tells.
	if r.Expected != May && e.proof != ByEnd {
		out.Verdict = r.Verdict
	}
	return out
}

// storyOf is the handshake log's story of a visit.
func (l *Lab) storyOf(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.URL.Query().Get("id"), 10, 64)
	event := l.recent.Find(id)
	if err != nil || event == nil || l.story == nil {
		http.Error(w, "the handshake log has no such handshake yet", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(l.story(event)))
}

// now is the lab's time, from which on a test of the browser counts visits: the browser's clock may be another machine's.
func (l *Lab) now(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(time.Now().UnixMilli())
}

// beginBrowser forgets the verdicts of the test before, which may have been of another browser.
func (l *Lab) beginBrowser(w http.ResponseWriter) {
	l.mu.Lock()
	clear(l.browser)
	l.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// judgeBrowser judges what the page's script has done: its outcome stands for an exit code.
func (l *Lab) judgeBrowser(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	e := l.named(query.Get("endpoint"))
	since, err := strconv.ParseInt(query.Get("since"), 10, 64)
	if e == nil || err != nil {
		http.Error(w, "no such endpoint", http.StatusBadRequest)
		return
	}

	took, _ := strconv.Atoi(query.Get("ms"))
	o := Outcome{Output: printable(query.Get("error")), Killed: query.Get("outcome") == "killed", Duration: time.Duration(took) * time.Millisecond, script: true}
	if query.Get("outcome") != "success" {
		o.Exit = 1
	}
	// A browser keeps its connections for as long as it likes.
	settled, cancel := context.WithTimeout(r.Context(), settleTimeout)
	defer cancel()
	// What another client has done meanwhile says nothing of this browser.
	visits := l.settle(settled, e.Name, time.UnixMilli(since), sources{sourceOf(r.RemoteAddr)}, hasData)
	visits = slices.DeleteFunc(visits, func(v Visit) bool { return v.Agent != "" && v.Agent != agentOf(r) })
	result := judge(e, visits, o, calibration{})
	l.mu.Lock()
	l.browser[e] = result
	l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(l.browserVerdicts()[e.Name].json())
}

// browserVerdicts are the last ones of the page's own test, as far as it has come, by endpoint.
func (l *Lab) browserVerdicts() map[string]*Result {
	verdicts := map[string]*Result{}
	l.mu.Lock()
	for e, r := range l.browser {
		verdicts[e.Name] = &r
	}
	l.mu.Unlock()
	compare(verdicts)
	return verdicts
}

// browserResults are the same in the order of the endpoints.
func (l *Lab) browserResults(w http.ResponseWriter) {
	rows, verdicts := []resultJSON{}, l.browserVerdicts()
	for _, e := range l.endpoints {
		if r := verdicts[e.Name]; r != nil {
			rows = append(rows, r.json())
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(rows)
}
