package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"padlock/console"
	"padlock/inspect"
)

const requestToken = "0123456789abcdef"

// remembered is a store with a request whose client has put markup and secrets wherever it could, and what asks the console for it.
func remembered(t *testing.T) (*inspect.Store, string) {
	t.Helper()
	s := inspect.NewStore(1<<20, "token")
	c := s.Begin(&inspect.Limits{Site: "a.test", Requests: 9, Body: 1 << 10}, time.Now(), &inspect.Arrival{
		Method: "POST", Scheme: "https", Host: "a.test", Target: "/p?token=s3cret&x=" + hostile, Proto: "HTTP/2.0", Remote: "192.0.2.1",
	}, inspect.LinesOf([]inspect.Field{{Name: "Cookie", Value: "s3cret"}, {Name: "X-Hostile", Value: hostile}, {Name: "Content-Type", Value: "text/html"}}), nil)
	c.Content(inspect.Client, []byte(hostile))
	c.Trying("http://127.0.0.1:1", 0, "POST", "a.test", "/p", inspect.LinesOf([]inspect.Field{{Name: "X-Forwarded-For", Value: "192.0.2.1"}}))
	c.Missed(inspect.Try{Error: "refused " + hostile})
	c.Head(502, inspect.LinesOf([]inspect.Field{{Name: "Set-Cookie", Value: "s3cret"}, {Name: "Content-Type", Value: "image/svg+xml"}}))
	c.Content(inspect.Server, []byte(hostile))
	c.End(inspect.Outcome{Status: 502, Error: hostile, Duration: time.Second})
	url := admin(t, console.Options{Requests: s, Replay: func(_ context.Context, id uint64, e inspect.Edit) (uint64, error) {
		if _, err := s.Again(id, e); err != nil {
			return 0, err
		}
		return id, nil
	}}, console.Guard{Network: "tcp", Token: requestToken})
	return s, url
}

var bearer = map[string]string{"Authorization": "Bearer " + requestToken}

func TestWhatClientsHaveSentIsShownAsText(t *testing.T) {
	_, url := remembered(t)
	for _, path := range []string{"/inspect", "/requests/1", "/requests/1?fragment=1", "/requests/1?reveal=1"} {
		page := body(t, ask(t, "GET", url+path, bearer))
		if strings.Contains(page, "<img src=x") || strings.Contains(page, "<script>") || !strings.Contains(page, "&lt;") {
			t.Errorf("%s: a client has put an element into the page\n%s", path, page)
		}
		if has := strings.Contains(page, "s3cret"); has != strings.Contains(path, "reveal") {
			t.Errorf("%s has secrets: %t", path, has)
		}
	}
	for path, want := range map[string]string{
		"/requests/1": "added by padlock", "/requests/1.json": `"target_status":0`, "/requests": `"status":502`, "/requests?format=line": " POST ", "/requests.har": `"version": "1.2"`,
		"/requests.http": "POST https://a.test/p", "/requests/1.curl": "curl -X", "/requests?status=4xx": "", "/requests?text=nothing": "", "/requests?slower=500ms": `"id":1`, "/requests?slower=2s": "",
	} {
		response := ask(t, "GET", url+path, bearer)
		text := body(t, response)
		if want == `"target_status":0` {
			want = `"request_content"`
		}
		if response.StatusCode != 200 || !strings.Contains(text, want) || want == "" && text != "" || strings.Contains(text, "s3cret") {
			t.Errorf("%s: %s\n%s", path, response.Status, text)
		}
	}
	// Whoever has asked for secrets gets them with all that is copied, and whoever has not is told so.
	page := body(t, ask(t, "GET", url+"/requests/1?reveal=1", bearer))
	for _, link := range []string{"/requests/1.curl?reveal=1", "/requests/1.json?reveal=1", "/requests.har?id=1&amp;reveal=1", "/requests/1/content/in?reveal=1"} {
		if !strings.Contains(page, `href="`+link+`"`) {
			t.Errorf("no link to %s", link)
		}
	}
	if text := body(t, ask(t, "GET", url+"/requests/1.curl", bearer)); !strings.HasPrefix(text, "# "+inspect.Hidden+" stands for") {
		t.Error(text)
	}
	// Neither is shown by the browser as a page of the console's.
	response := ask(t, "GET", url+"/requests/1/content/out?image=1", bearer)
	if body(t, response) != hostile || response.Header.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(response.Header.Get("Content-Disposition"), "attachment") ||
		response.Header.Get("Content-Security-Policy") != "default-src 'none'; sandbox" || response.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", response.Header)
	}
	for _, path := range []string{"/requests/2", "/requests/x", "/requests/1.exe", "/requests/2.json", "/requests/2/content/in"} {
		if code := ask(t, "GET", url+path, bearer).StatusCode; code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

// What turns the direction of writing, or is not to be seen, is spelled out in rows. Letters that are written from right to left stay, and turn
// nothing beside them: the style isolates them.
func TestWhatIsWrittenTheOtherWayTurnsNoRow(t *testing.T) {
	s := inspect.NewStore(1 << 20)
	c := s.Begin(&inspect.Limits{Site: "a.test", Requests: 9, Body: 1 << 10}, time.Now(), &inspect.Arrival{
		Method: "GET", Scheme: "https", Host: "a.test", Target: "/ws?x=a\u202eb", Proto: "HTTP/2.0", Remote: "192.0.2.1",
	}, inspect.LinesOf(nil), nil)
	c.Head(101, inspect.LinesOf(nil))
	c.Tunnel(true, inspect.LinesOf(nil))
	text := "\u202egnp.exe\x1b[2J \u05e9\u05dc\u05d5\u05dd \U0001F468\u200d\U0001F469"
	c.Content(inspect.Server, append([]byte{0x81, byte(len(text))}, text...))
	url := admin(t, console.Options{Requests: s}, console.Guard{Network: "tcp", Token: requestToken})
	for path, wants := range map[string][]string{
		"/inspect":    {`/ws?x=a\u{202e}b`},
		"/requests/1": {`/ws?x=a\u{202e}b</h1>`, `<code>GET /ws?x=a\u{202e}b</code>`, "<span class=\"first\">\\u{202e}gnp.exe\\u{1b}[2J \u05e9\u05dc\u05d5\u05dd \U0001F468\u200d\U0001F469</span>"},
	} {
		page := body(t, ask(t, "GET", url+path, bearer))
		for _, want := range wants {
			if !strings.Contains(page, want) {
				t.Errorf("%s: no %q in\n%s", path, want, page)
			}
		}
	}
	line := body(t, ask(t, "GET", url+"/requests?format=line", bearer))
	if strings.Contains(line, "\u202e") {
		t.Errorf("%q", line)
	}
}

// Half of a filter chooses nothing: who has mistyped it is told so, and is not shown everything, or nothing for ever.
func TestFiltersThatCannotBeUnderstoodAreRefused(t *testing.T) {
	_, url := remembered(t)
	for query, want := range map[string]string{
		"status=50x": "status must be", "status=nix": "status must be", "slower=soon": "slower must be", "slower=-5s": "slower must be", "slower=NaN": "slower must be",
		"id=x": "id must be", "before=x": "before must be",
	} {
		for _, path := range []string{"/requests", "/requests?follow=1", "/inspect/live", "/requests.har", "/requests.http", "/inspect"} {
			separator := "?"
			if strings.Contains(path, "?") {
				separator = "&"
			}
			response := ask(t, "GET", url+path+separator+query, bearer)
			if text := body(t, response); response.StatusCode != 400 || !strings.Contains(text, want) || strings.Contains(text, "a.test") {
				t.Errorf("%s, %s: %s\n%s", path, query, response.Status, text)
			}
		}
	}
	for _, query := range []string{"status=502", "status=5XX", "status=failed", "slower=500ms", "slower=0.5s", "slower=500", "id=1&id=2", "before=2", "slower=&status=&id=1", "colour=1"} {
		response := ask(t, "GET", url+"/requests?"+query, bearer)
		if text := body(t, response); response.StatusCode != 200 || !strings.Contains(text, `"id":1`) {
			t.Errorf("%s: %s\n%s", query, response.Status, text)
		}
	}
}

// The form has what the address chooses, as rows that come are those of the form.
func TestTheFormHasWhatTheAddressChooses(t *testing.T) {
	_, url := remembered(t)
	for query, want := range map[string]string{"status=404": `<option value="404" selected>`, "method=propfind": `<option value="PROPFIND" selected>`, "status=5xx": `<option value="5xx" selected>`} {
		if page := body(t, ask(t, "GET", url+"/inspect?"+query, bearer)); !strings.Contains(page, want) || strings.Count(page, want) != 1 {
			t.Errorf("%s: no %s", query, want)
		}
	}
	if page := body(t, ask(t, "GET", url+"/inspect?status=404", bearer)); !strings.Contains(page, "No request is chosen") {
		t.Error("who has chosen other requests is told that there are none")
	}
}

// Requests have passwords in them, and a replay is sent in a client's name.
func TestRequestsAreForThoseWhoRunPadlock(t *testing.T) {
	s, url := remembered(t)
	open := admin(t, console.Options{Requests: s, Replay: func(context.Context, uint64, inspect.Edit) (uint64, error) {
		t.Error("a request was sent")
		return 0, inspect.ErrForgotten
	}}, local)
	for path := range map[string]bool{"/inspect": true, "/inspect/live": true, "/requests": true, "/requests/1": true, "/requests/1.json": true, "/requests.har": true, "/requests/1/content/in": true} {
		response := ask(t, "GET", open+path, nil)
		if text := body(t, response); response.StatusCode != 403 || strings.Contains(text, "a.test") {
			t.Errorf("without a token, %s: %s", path, response.Status)
		}
		if code := ask(t, "GET", url+path, nil).StatusCode; code != 401 {
			t.Errorf("without the token, %s: %d", path, code)
		}
	}

	send := func(to, text string, fields map[string]string) (int, string) {
		t.Helper()
		request, _ := http.NewRequest("POST", to, strings.NewReader(text))
		for name, value := range fields {
			request.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		answer, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(answer)
	}
	typed := map[string]string{"Authorization": "Bearer " + requestToken, "Content-Type": "application/json"}
	with := func(name, value string) map[string]string {
		fields := map[string]string{name: value}
		for k, v := range typed {
			if k != name {
				fields[k] = v
			}
		}
		return fields
	}
	for _, test := range []struct {
		what, to, text string
		fields         map[string]string
		want           int
	}{
		{"its own script", url + "/requests/1/replay", "{}", typed, 200},
		{"nothing to change", url + "/requests/1/replay", "", typed, 200},
		{"anybody on the machine", open + "/requests/1/replay", "{}", typed, 403},
		{"no token", url + "/requests/1/replay", "{}", map[string]string{"Content-Type": "application/json"}, 401},
		{"another page's script", url + "/requests/1/replay", "{}", with("Origin", "https://evil.example"), 403},
		{"another page, said otherwise", url + "/requests/1/replay", "{}", with("Sec-Fetch-Site", "cross-site"), 403},
		{"a form", url + "/requests/1/replay", "{}", with("Content-Type", "text/plain"), 415},
		{"a form without a type", url + "/requests/1/replay", "{}", map[string]string{"Authorization": "Bearer " + requestToken}, 415},
		{"a key with a slip", url + "/requests/1/replay", `{"metod":"PUT"}`, typed, 400},
		{"two headers in one", url + "/requests/1/replay", `{"headers":[{"name":"a","value":"b\r\nc: d"}]}`, typed, 422},
		{"none that is remembered", url + "/requests/9/replay", "{}", typed, 404},
		{"a form that forgets", url + "/requests/clear", "{}", with("Content-Type", "text/plain"), 415},
	} {
		if code, text := send(test.to, test.text, test.fields); code != test.want {
			t.Errorf("%s: %d, not %d: %s", test.what, code, test.want, text)
		}
	}
	if code, _ := send(url+"/requests/clear", "{}", typed); code != 204 || len(s.Recent()) > 0 {
		t.Errorf("%d, %d are left", code, len(s.Recent()))
	}
}

func TestRequestsAreToldAsTheyHappen(t *testing.T) {
	s, url := remembered(t)
	page := watch(t, url+"/inspect/live?text=%2Fnew", bearer)
	response := ask(t, "GET", url+"/requests", map[string]string{"Authorization": bearer["Authorization"], "Accept": "text/event-stream"})
	lines := make(chan string, 1)
	go func() {
		defer close(lines)
		text := make([]byte, 4<<10)
		n, _ := response.Body.Read(text)
		lines <- string(text[:n])
	}()

	c := s.Begin(&inspect.Limits{Site: "a.test", Requests: 9, Body: 10}, time.Now(), &inspect.Arrival{Method: "GET", Host: "a.test", Target: "/new"}, nil, nil)
	events(t, page, "rows", "/new")
	c.Head(204, nil)
	c.End(inspect.Outcome{Status: 204})
	events(t, page, "rows", "204")
	text := <-lines
	_, data, ok := strings.Cut(text, "data: ")
	var r map[string]any
	if err := json.Unmarshal([]byte(strings.TrimSpace(data)), &r); !ok || err != nil || r["status"] != 204.0 || !strings.HasPrefix(text, "id: 2\nevent: request\n") {
		t.Errorf("%q, %v", text, err)
	}
}

// However many requests change at once, each console gets what every one of them has come to.
func TestEveryRowComesToWhatItsRequestHasComeTo(t *testing.T) {
	const many = 60
	s, url := remembered(t)
	pages := []*bufio.Scanner{watch(t, url+"/inspect/live", bearer), watch(t, url+"/inspect/live?text=%2Fmany", bearer)}
	var open []*inspect.Record
	for range many {
		c := s.Begin(&inspect.Limits{Site: "a.test", Requests: 1000, Body: 10}, time.Now(), &inspect.Arrival{Method: "GET", Host: "a.test", Target: "/many"}, nil, nil)
		c.Head(200, inspect.LinesOf([]inspect.Field{{Name: "Content-Type", Value: "text/event-stream"}}))
		c.Content(inspect.Server, []byte("data: 1\n\n"))
		open = append(open, c)
	}
	for _, page := range pages {
		events(t, page, "rows", "/many")
	}
	for _, c := range open {
		c.End(inspect.Outcome{Status: 200})
	}
	for i, page := range pages {
		done := make(chan int)
		go func() {
			ended := map[string]bool{}
			for len(ended) < many && page.Scan() {
				if id, ok := strings.CutPrefix(page.Text(), `data: <li id="`); ok && strings.Contains(id, " data-done>") {
					ended[id[:strings.IndexByte(id, '"')]] = true
				}
			}
			done <- len(ended)
		}()
		select {
		case n := <-done:
			if n != many {
				t.Errorf("console %d: %d", i, n)
			}
		case <-time.After(time.Minute):
			t.Fatalf("console %d has not got all rows", i)
		}
	}
}
