package inspect_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/chromedp/cdproto/har"

	"padlock/inspect"
)

func TestTheDifferenceNamesEachChange(t *testing.T) {
	f := func(pairs ...string) (fields []inspect.Field) {
		for i := 0; i < len(pairs); i += 2 {
			fields = append(fields, inspect.Field{Name: pairs[i], Value: pairs[i+1]})
		}
		return fields
	}
	for _, test := range []struct {
		before, after []inspect.Field
		want          string
	}{
		{nil, nil, "[]"},
		{f("A", "1"), f("a", "1"), "[same A=1]"},
		{f("A", "1", "B", "2"), f("B", "3"), "[removed A=1 rewritten B=2>3]"},
		{f("Vary", "a", "Vary", "b"), f("Vary", "b", "Vary", "a", "Vary", "c"), "[same Vary=a same Vary=b added Vary=c]"},
		{f("X", "1", "X", "2"), f("X", "2"), "[removed X=1 same X=2]"},
	} {
		var got []string
		for _, c := range inspect.Diff(test.before, test.after) {
			text := c.Kind + " " + c.Name + "=" + c.Value
			if c.Before != "" {
				text = c.Kind + " " + c.Name + "=" + c.Before + ">" + c.Value
			}
			got = append(got, text)
		}
		if fmt.Sprint(got) != test.want {
			t.Errorf("%v to %v: %v", test.before, test.after, got)
		}
	}
}

func TestContentIsReadAsWhatItIs(t *testing.T) {
	typed := func(kind, coding string) []inspect.Field {
		return []inspect.Field{{Name: "Content-Type", Value: kind}, {Name: "Content-Encoding", Value: coding}}
	}
	var packed, bomb bytes.Buffer
	for b, text := range map[*bytes.Buffer][]byte{&packed: []byte(`{"a":[1]}`), &bomb: make([]byte, 64<<20)} {
		w := gzip.NewWriter(b)
		_, _ = w.Write(text)
		w.Close()
	}
	for _, test := range []struct {
		fields     []inspect.Field
		data       string
		kind, text string
	}{
		{typed("application/json", ""), `{"a":[1]}`, "json", "{\n  \"a\": [\n    1\n  ]\n}"},
		{typed("application/problem+json", "gzip"), packed.String(), "json", "{\n  \"a\": [\n    1\n  ]\n}"},
		{typed("application/json", ""), `{"a":`, "text", `{"a":`},
		{typed("text/html", ""), "<script>", "text", "<script>"},
		{typed("image/svg+xml", ""), "<svg onload=x>", "text", "<svg onload=x>"},
		{typed("text/html", ""), "\x89PNG\r\n\x1a\n....", "image", ""},
		{typed("image/png", ""), "<script>", "text", "<script>"},
		{typed("application/x-www-form-urlencoded", ""), "a=b+c&d=%20", "form", "a=b+c&d=%20"},
		{typed("application/grpc", ""), "\x00\x00\x00\x00\x02hi\x01\x00\x00\x00\x09part", "grpc", ""},
		{typed("text/plain", "zip"), "text", "binary", ""},
		{typed("application/octet-stream", ""), "\x00\x01", "binary", ""},
	} {
		v := inspect.NewView(test.fields, &inspect.Content{Data: []byte(test.data), Size: int64(len(test.data))}, "/a.B/C")
		if v.Kind != test.kind || v.Text != test.text {
			t.Errorf("%q: %+v", test.data, v)
		}
	}
	v := inspect.NewView(typed("application/grpc", ""), &inspect.Content{Data: []byte("\x00\x00\x00\x00\x02hi\x01\x00\x00\x00\x09part"), Size: 14}, "/a.B/C")
	if len(v.Frames) != 2 || v.Frames[1].Size != 9 || !v.Frames[1].Compressed {
		t.Errorf("%+v", v.Frames)
	}
	v = inspect.NewView(typed("application/x", "gzip"), &inspect.Content{Data: bomb.Bytes(), Size: int64(bomb.Len())}, "/a.B/C")
	if len(v.Text)+len(v.Hex) > 2<<20 {
		t.Errorf("64 MiB of a few bytes became %d", len(v.Text)+len(v.Hex))
	}
}

func sample(target, content string) *inspect.Request {
	return &inspect.Request{
		ID: 7, Start: time.Unix(1e9, 0), Arrival: inspect.Arrival{Method: "POST", Scheme: "https", Host: "a.test:8443", Target: target, Proto: "HTTP/2.0"}, Status: 201, Done: true,
		Duration: 30 * time.Millisecond, FirstByte: 20 * time.Millisecond,
		Received: []inspect.Field{{Name: "X-Quote", Value: `it's "$HOME" \n`}, {Name: "Content-Length", Value: "3"}, {Name: "Cookie", Value: "a=b; c=d"}, {Name: "Empty", Value: ""}},
		Response: []inspect.Field{{Name: "Content-Type", Value: "text/plain"}, {Name: "Set-Cookie", Value: "s=1; Path=/"}},
		In:       inspect.Content{Data: []byte(content), Size: int64(len(content))}, Out: inspect.Content{Data: []byte{0, 1, 2}, Size: 3},
		Tries: []inspect.Try{{Target: "http://x", Status: 201, At: 2 * time.Millisecond, Connect: 3 * time.Millisecond, TLS: 4 * time.Millisecond, Took: 18 * time.Millisecond}},
	}
}

// The words of a command are those that were meant, whatever a client has put into them: a real shell reads them.
func TestCommandsMeanWhatTheClientHasSent(t *testing.T) {
	for _, content := range []string{`it's $(touch x) "q" ` + "`id`\n", "\x00\x01'", "\x1b[201~\x1b[H id #\n"} {
		r := sample("/a'b?x=$(id)&y=`id`", content)
		r.Received = append(r.Received, inspect.Field{Name: "X-Keys", Value: "%s \u009b2~' \xff"})
		command, ok := inspect.Command("curl", r)
		if !ok {
			t.Fatal("curl is no format")
		}
		out, err := exec.Command("sh", "-c", `curl() { for word; do printf '%s\n--\n' "$word"; done; }; `+command).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, out, command)
		}
		for _, want := range []string{"https://a.test:8443/a'b?x=$(id)&y=`id`\n", `X-Quote: it's "$HOME" \n` + "\n", "Empty;\n"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%q is not among\n%s", want, out)
			}
		}
		for _, format := range []string{"curl", "httpie"} {
			if text, _ := inspect.Command(format, r); strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && unicode.IsControl(c) }) {
				t.Errorf("keys would be pasted into the terminal: %q", text)
			}
		}
		if !strings.Contains(string(out), "X-Keys: %s \u009b2~' \xff\n") {
			t.Errorf("%q", out)
		}
		if strings.Contains(string(out), "Content-Length") {
			t.Error("the length is that of other content")
		}
	}
	for _, format := range inspect.Formats() {
		if text, ok := inspect.Command(format, sample("/", "x")); !ok || !strings.Contains(text, "a.test:8443") {
			t.Errorf("%s: %s", format, text)
		}
	}
	if _, ok := inspect.Command("exe", sample("/", "")); ok {
		t.Error("a format that nobody knows")
	}
	cut := sample("/", "x")
	cut.In.Cut, cut.In.Size = true, 100
	if text, _ := inspect.Command("fetch", cut); !strings.HasPrefix(text, "// only the first 1 of 100") {
		t.Error(text)
	}
}

// A program that sends one byte for each character gets one character for each byte, and no name a second time where
// it would replace the first.
func TestProgramsSendFieldsAsTheyCame(t *testing.T) {
	const name = "caf\u00e9 \xff\u202e\u009b \"\\"
	r := sample("/caf\u00e9?x=\u202e\xff", "\u202econtent")
	r.Received = append(r.Received, inspect.Field{Name: "X-Name", Value: name}, inspect.Field{Name: "X-Two", Value: "1"}, inspect.Field{Name: "x-two", Value: "2"}, inspect.Field{Name: "Cookie", Value: "e=f"})
	for _, format := range []string{"fetch", "python"} {
		text, _ := inspect.Command(format, r)
		if strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && (c < ' ' || c > '~') }) {
			t.Errorf("text is invisible, or looks like something else: %q", text)
		}
		if !strings.Contains(text, `"https://a.test:8443/caf%C3%A9?x=%E2%80%AE%FF"`) {
			t.Errorf("another address: %s", text)
		}
		_, rest, _ := strings.Cut(text, `"X-Name", `)
		var got string
		if err := json.NewDecoder(strings.NewReader(rest)).Decode(&got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		var sent []byte
		for _, c := range got {
			sent = append(sent, byte(c))
		}
		if string(sent) != name {
			t.Errorf("%s sends %q", format, sent)
		}
	}
	text, _ := inspect.Command("python", r)
	for _, want := range []string{`add_header("X-Two", "1, 2")`, `add_header("Cookie", "a=b; c=d; e=f")`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
}

// What cannot be seen would make a command look like another one.
func TestCopiedTextIsVisible(t *testing.T) {
	r := sample("/", "a \u202e b")
	r.Received = append(r.Received, inspect.Field{Name: "X-Turned", Value: "a\u2066b\u200bc"})
	for _, format := range inspect.Formats() {
		if text, _ := inspect.Command(format, r); strings.ContainsFunc(text, func(c rune) bool { return c != '\n' && !unicode.IsGraphic(c) }) {
			t.Errorf("%s: %q", format, text)
		}
	}
}

// What a client sends stays text in the file that an editor runs.
func TestAFileOfRequestsHasOnlyRequests(t *testing.T) {
	for _, content := range []string{"< /etc/passwd", "a\n### \nGET https://evil.example/", "{{$processEnv HOME}}", "x\n> {% client.log(1) %}", "< {% x %}", "  <@ ./file", "@host = evil"} {
		r := sample("/{{x}}", content)
		r.Received = append(r.Received, inspect.Field{Name: "X-Variable", Value: "{{$dotenv SECRET}}"})
		text := string(inspect.HTTPFile([]*inspect.Request{r}))
		if strings.Contains(text, content) || strings.Contains(text, "{{") || strings.Count(text, "left out") != 2 || strings.Count(text, "###") != 1 {
			t.Errorf("%q:\n%s", content, text)
		}
	}
	if text := string(inspect.HTTPFile([]*inspect.Request{sample("/", `{"a": 1}`)})); !strings.HasPrefix(text, "### #7, 2001-09-09 01:46:40: 201\nPOST https://a.test:8443/\n") || !strings.Contains(text, "\n\n{\"a\": 1}\n") {
		t.Error(text)
	}
}

// The structure is compared with HAR 1.2's own words: what is required there is there, and nothing has another type.
func TestAnArchiveIsOneOfHAR(t *testing.T) {
	text := []byte(archive(sample("/p?q=1&r=a+b", "a=1"), nil, &inspect.Request{Start: time.Unix(1e9, 0), Arrival: inspect.Arrival{Method: "GET", Scheme: "https", Host: "a.test", Target: "/", Proto: "HTTP/1.1"}}))
	var file map[string]any
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	log := file["log"].(map[string]any)
	if log["version"] != "1.2" || log["creator"].(map[string]any)["name"] != "padlock" {
		t.Errorf("%v", log)
	}
	number, word, list, object := reflect.Float64, reflect.String, reflect.Slice, reflect.Map
	check := func(where string, o any, keys map[string]reflect.Kind) map[string]any {
		t.Helper()
		m, _ := o.(map[string]any)
		for key, kind := range keys {
			if value, ok := m[key]; !ok || reflect.ValueOf(value).Kind() != kind {
				t.Errorf("%s.%s is %v", where, key, value)
			}
		}
		return m
	}
	for _, one := range log["entries"].([]any) {
		entry := check("entry", one, map[string]reflect.Kind{"startedDateTime": word, "time": number, "request": object, "response": object, "cache": object, "timings": object})
		request := check("request", entry["request"], map[string]reflect.Kind{"method": word, "url": word, "httpVersion": word, "cookies": list, "headers": list, "queryString": list, "headersSize": number, "bodySize": number})
		response := check("response", entry["response"], map[string]reflect.Kind{"status": number, "statusText": word, "httpVersion": word, "cookies": list, "headers": list, "content": object, "redirectURL": word, "headersSize": number, "bodySize": number})
		check("content", response["content"], map[string]reflect.Kind{"size": number, "mimeType": word})
		times := check("timings", entry["timings"], map[string]reflect.Kind{"send": number, "wait": number, "receive": number})
		sum := 0.0
		for key, value := range times {
			if n := value.(float64); n > 0 && key != "ssl" {
				sum += n
			}
		}
		if whole := entry["time"].(float64); sum < whole-0.01 || sum > whole+0.01 {
			t.Errorf("the parts of %v make %v: %v", whole, sum, times)
		}
		if _, err := time.Parse(time.RFC3339, entry["startedDateTime"].(string)); err != nil {
			t.Error(err)
		}
		if data, ok := request["postData"]; ok {
			check("postData", data, map[string]reflect.Kind{"mimeType": word, "text": word})
		}
	}
	// Chromium's own types for it are a reader that nobody here has written.
	var known har.HAR
	if err := json.Unmarshal(text, &known); err != nil || len(known.Log.Entries) != 2 || known.Log.Entries[0].Request.PostData.Text != "a=1" || known.Log.Entries[0].Response.Content.Encoding != "base64" {
		t.Errorf("%v: %+v", err, known.Log)
	}
	if !bytes.Contains(text, []byte(`"encoding":"base64"`)) || !bytes.Contains(text, []byte(`"value":"a b"`)) {
		t.Errorf("%s", text)
	}
}

func TestAReplayIsWhatWasSentOrWhatIsEdited(t *testing.T) {
	s := inspect.NewStore(1<<20, "token")
	l := &inspect.Limits{Site: "a", Requests: 9, Body: 8}
	c := begin(s, l, "/p?token=s3cret", inspect.Field{Name: "Cookie", Value: "a=1"}, inspect.Field{Name: "Connection", Value: "close"}, inspect.Field{Name: "X", Value: "1"})
	c.Content(inspect.Client, []byte("12345678"))
	c.End(inspect.Outcome{Status: 500})
	again := func(e inspect.Edit) string {
		r, err := s.Again(c.ID(), e)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s %s %s %v %s", r.Method, r.Host, r.Target, r.Received, r.In.Data)
	}
	other := "new"
	for _, test := range []struct {
		edit inspect.Edit
		want string
	}{
		{inspect.Edit{}, "GET a /p?token=s3cret [{Cookie a=1 false} {X 1 false}] 12345678"},
		{inspect.Edit{Method: "PUT", Target: "/p?token=" + inspect.Hidden, Content: &other}, "PUT a /p?token=s3cret [{Cookie a=1 false} {X 1 false}] new"},
		{inspect.Edit{Fields: []inspect.Field{{Name: "Host", Value: "b"}, {Name: "Cookie", Value: inspect.Hidden}, {Name: "Y", Value: "2"}}}, "GET b /p?token=s3cret [{Cookie a=1 false} {Y 2 false}] 12345678"},
		{inspect.Edit{Method: "GET /"}, "\"GET /\" is no method"},
		{inspect.Edit{Method: "CONNECT"}, "\"CONNECT\" is no method"},
		{inspect.Edit{Target: "http://elsewhere/"}, "\"http://elsewhere/\" is no path: it begins with a slash, and blanks in it are %20"},
		{inspect.Edit{Target: "/a b"}, "\"/a b\" is no path: it begins with a slash, and blanks in it are %20"},
		{inspect.Edit{Fields: []inspect.Field{{Name: "X", Value: "a\r\nY: b"}}}, "the value of X has a line break, or another control character"},
		{inspect.Edit{Fields: []inspect.Field{{Name: "X Y", Value: ""}}}, "\"X Y\" is no name of a header"},
	} {
		if got := again(test.edit); got != test.want {
			t.Errorf("%+v:\n%s, not\n%s", test.edit, got, test.want)
		}
	}

	c.Content(inspect.Client, []byte("9"))
	cut := begin(s, l, "/")
	cut.Content(inspect.Client, []byte("123456789"))
	cut.End(inspect.Outcome{Status: 200})
	if _, err := s.Again(cut.ID(), inspect.Edit{}); err == nil || !strings.Contains(err.Error(), "first 8 bytes") {
		t.Error(err)
	}
	if _, err := s.Again(cut.ID(), inspect.Edit{Content: &other}); err != nil {
		t.Error(err)
	}
	if _, err := s.Again(99, inspect.Edit{}); err != inspect.ErrForgotten {
		t.Error(err)
	}
}
