package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// decoding reads content in a coding; the content itself where there is none.
func decoding(t *testing.T, coding string, content io.Reader) io.Reader {
	t.Helper()
	switch coding {
	case "gzip":
		r, err := gzip.NewReader(content)
		if err != nil {
			t.Fatal(err)
		}
		return r
	case "br":
		return brotli.NewReader(content)
	case "zstd":
		r, err := zstd.NewReader(content, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	}
	return content
}

// told is what a response says of its coding: Content-Encoding, ETag, Vary, Accept-Ranges, and whether it has a
// length.
func told(r *http.Response) string {
	vary := strings.Join(r.Header.Values("Vary"), ", ")
	return fmt.Sprintf("%s|%s|%s|%s|%v", r.Header.Get("Content-Encoding"), r.Header.Get("ETag"), vary, r.Header.Get("Accept-Ranges"), r.Header.Get("Content-Length") != "")
}

// What a target answers is compressed for clients that accept it, over every protocol, and nothing else is.
func TestResponsesAreCompressed(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("text that repeats itself, and is worth a coding. ", 100)
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		for name, values := range query {
			if name != "status" && name != "size" && name != "streamed" {
				h[http.CanonicalHeaderKey(name)] = values
			}
		}
		size := len(text)
		if n, err := strconv.Atoi(query.Get("size")); err == nil {
			size = n
		}
		h.Set("X-Conditions", r.Header.Get("If-Match")+"|"+r.Header.Get("If-None-Match"))
		status := 200
		if n, err := strconv.Atoi(query.Get("status")); err == nil {
			status = n
		}
		if query.Get("streamed") == "" && status != 204 && status != 304 {
			h.Set("Content-Length", strconv.Itoa(size))
		}
		w.WriteHeader(status)
		if status != 204 && status != 304 {
			_, _ = io.WriteString(w, text[:size])
		}
	})
	e := startFile(t, `
sites:
  - hosts: [localhost]
    compress: true
    headers: {response: {set: {X-Rule: yes}}}
    routes:
      - {to: %q}
      - {path: /buffered, to: %[1]q, buffer: {response: 1MiB}}
      - {path: /rules, to: %[1]q, headers: {request: {remove: [Accept-Encoding]}, response: {set: {Vary: Origin, ETag: '"rule"'}}}}
      - {path: /off, to: %[1]q, compress: false}
      - {path: /gzip, to: %[1]q, compress: {prefer: [gzip], min: 10, types: [text/html], cookies: never}}
      - {path: /always, to: %[1]q, compress: {cookies: always, level: fast}}
`, target)
	const all = "gzip, deflate, br, zstd"
	plain := "|||"
	for name, client := range e.everyClient(t) {
		for _, c := range []struct {
			target, accept string
			want           string // told
			fields         []string
		}{
			{"/", all, "zstd||Accept-Encoding||false", nil}, {"/", "br, gzip", "br||Accept-Encoding||false", nil}, {"/", "gzip", "gzip||Accept-Encoding||false", nil},
			{"/", "gzip;q=1, zstd;q=0.1", "gzip||Accept-Encoding||false", nil}, {"/", "identity", "||Accept-Encoding||true", nil}, {"/", "gzip;q=0", "||Accept-Encoding||true", nil},
			{"/?streamed=1", all, "zstd||Accept-Encoding||false", nil}, {"/buffered", all, "zstd||Accept-Encoding||false", nil}, {"/buffered?streamed=1", "br", "br||Accept-Encoding||false", nil},
			{`/?etag="a"&accept-ranges=bytes`, all, `zstd|W/"a"|Accept-Encoding||false`, nil}, {`/?etag=W/"a"&vary=Origin`, all, `zstd|W/"a"|Origin, Accept-Encoding||false`, nil},
			{`/?etag="a"&accept-ranges=bytes`, "identity", `|"a"|Accept-Encoding|bytes|true`, nil}, {"/?vary=accept-encoding", all, "zstd||accept-encoding||false", nil}, {"/?vary=*", all, "zstd||*||false", nil},
			{`/?etag="a"&status=304`, all, `|W/"a"|Accept-Encoding||false`, nil}, {`/?etag="a"&status=304`, "identity", `|"a"|Accept-Encoding||false`, nil}, {"/?status=204", all, plain + "|false", nil},
			{"/?status=404", all, "zstd||Accept-Encoding||false", nil}, {`/?status=206&content-range=bytes+0-4899/9000&etag="a"`, all, `|"a"|||true`, nil}, {"/?content-encoding=br", "br", "br||||true", nil},
			{"/?cache-control=public,+no-transform", all, plain + "|true", nil}, {"/", all, "||Accept-Encoding||true", []string{"Cache-Control", "no-transform"}},
			{"/?content-digest=sha-256=:x:", all, plain + "|true", nil}, {"/?content-type=image/png", all, plain + "|true", nil}, {"/?content-type=image/svg%2bxml", all, "zstd||Accept-Encoding||false", nil},
			{"/?content-type=application/problem%2bjson", all, "zstd||Accept-Encoding||false", nil}, {"/?content-type=APPLICATION/JSON", all, "zstd||Accept-Encoding||false", nil},
			{"/?content-type=text/event-stream", all, plain + "|true", nil}, {"/?content-type=application/grpc%2bproto", all, plain + "|true", nil}, {"/?content-type=", all, plain + "|true", nil},
			{"/?size=1023", all, plain + "|true", nil}, {"/?size=1024", all, "zstd||Accept-Encoding||false", nil}, {"/?size=500", "gzip, identity;q=0", "gzip||Accept-Encoding||false", nil}, {"/?size=0", all, plain + "|true", nil},
			{`/rules?etag="a"`, all, `zstd|W/"rule"|Origin, Accept-Encoding||false`, nil}, {"/off", all, plain + "|true", nil},
			{"/gzip?size=10", all, "gzip||Accept-Encoding||false", nil}, {"/gzip?size=9", all, plain + "|true", nil}, {"/gzip?content-type=text/css", all, plain + "|true", nil}, {"/gzip", "br, zstd", "||Accept-Encoding||true", nil},
			{"/gzip", all, "||Accept-Encoding||true", []string{"Cookie", "a=b"}}, {"/gzip", all, "||Accept-Encoding||true", []string{"Authorization", "Bearer x"}},
			{"/", all, "zstd||Accept-Encoding||false", []string{"Cookie", "a=b"}}, {"/", all, "zstd||Accept-Encoding||false", []string{"Cookie", "a=b", "Sec-Fetch-Site", "same-origin"}},
			{"/", all, "||Accept-Encoding||true", []string{"Cookie", "a=b", "Sec-Fetch-Site", "cross-site"}}, {"/", all, "zstd||Accept-Encoding||false", []string{"Sec-Fetch-Site", "cross-site"}},
			{"/", all, "zstd||Accept-Encoding||false", []string{"Cookie", "a=b", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-User", "?1"}},
			{"/always", all, "zstd||Accept-Encoding||false", []string{"Cookie", "a=b", "Sec-Fetch-Site", "cross-site"}},
			{"/nothing?status=500&size=100", all, plain + "|true", nil},
		} {
			fields := append([]string{"Accept-Encoding", c.accept}, c.fields...)
			response, body := fetch(t, client, "GET", "https://localhost"+c.target, fields...)
			if got := told(response); got != c.want {
				t.Errorf("%s: %s (%s %v): %s, not %s", name, c.target, c.accept, c.fields, got, c.want)
				continue
			}
			coding := response.Header.Get("Content-Encoding")
			if strings.Contains(c.target, "content-encoding=") {
				coding = ""
			}
			content, err := io.ReadAll(decoding(t, coding, strings.NewReader(body)))
			if err != nil || !strings.HasPrefix(text, string(content)) || len(content) == 0 && response.StatusCode != 204 && response.StatusCode != 304 && !strings.Contains(c.target, "size=0") {
				t.Errorf("%s: %s: %v, %d bytes", name, c.target, err, len(content))
			}
			if response.Header.Get("X-Rule") != "yes" {
				t.Errorf("%s: %s: %v", name, c.target, response.Header)
			}
			if strings.Contains(c.target, "streamed") { // of which HEAD knows no length
				continue
			}
			head, _ := fetch(t, client, "HEAD", "https://localhost"+c.target, fields...)
			if got := told(head); got != c.want {
				t.Errorf("%s: HEAD %s (%s): %s, not %s", name, c.target, c.accept, got, c.want)
			}
		}

		response, _ := fetch(t, client, "GET", "https://localhost/", "Accept-Encoding", all, "If-Match", `W/"a", "bW/" , W/"c"`, "If-None-Match", `W/"a"`)
		if got := response.Header.Get("X-Conditions"); got != `"a", "bW/" , "c"|W/"a"` {
			t.Errorf("%s: the target was asked for %s", name, got)
		}
	}

	if answer, err := io.ReadAll(e.one(t, "GET / HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n")); err != nil || !bytes.Contains(answer, []byte("\r\n\r\n"+text)) {
		t.Errorf("HTTP/1.0: %v, %.300s", err, answer)
	}
}

// Files are compressed as they are read, unless there is a compressed one beside; ranges are of the file, and its
// tag goes on to match.
func TestFilesAreCompressed(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a file that repeats itself. ", 10_000)
	dir := folder(t, map[string]string{"a.html": text, "b.css": text, "b.css.gz": "beside", "c.png": text, "small.txt": "small"})
	page := filepath.Join(folder(t, map[string]string{"404.html": text}), "404.html")
	e := startFile(t, `
sites: [{hosts: [localhost], compress: true, errors: {404: %q}, routes: [{files: {root: %q}}]}]
`, page, dir)
	for name, client := range e.everyClient(t) {
		for _, c := range []struct {
			path, accept, coding string
			status               int
			fields               []string
		}{
			{"/a.html", "zstd, br, gzip", "zstd", 200, nil}, {"/a.html", "br", "br", 200, nil}, {"/a.html", "identity", "", 200, nil}, {"/a.html", "gzip", "", 206, []string{"Range", "bytes=0-99999"}},
			{"/b.css", "gzip", "gzip", 200, nil}, {"/b.css", "zstd, gzip;q=0.9", "gzip", 200, nil}, {"/b.css", "zstd", "zstd", 200, nil}, {"/c.png", "gzip", "", 200, nil}, {"/small.txt", "gzip", "", 200, nil},
			{"/nothing", "gzip", "", 404, []string{"Accept", "text/html"}},
		} {
			response, body := fetch(t, client, "GET", "https://localhost"+c.path, append(c.fields, "Accept-Encoding", c.accept)...)
			if response.StatusCode != c.status || response.Header.Get("Content-Encoding") != c.coding {
				t.Errorf("%s: %s (%s): %s %v", name, c.path, c.accept, response.Status, response.Header)
				continue
			}
			if body == "beside" || c.path == "/small.txt" {
				continue
			}
			if content, err := io.ReadAll(decoding(t, c.coding, strings.NewReader(body))); err != nil || !strings.HasPrefix(text, string(content)) || len(content) < 99999 {
				t.Errorf("%s: %s (%s): %v, %d bytes", name, c.path, c.accept, err, len(content))
			}
			if vary := response.Header.Values("Vary"); len(vary) > 1 {
				t.Errorf("%s: %s: %q", name, c.path, vary)
			}
		}

		response, _ := fetch(t, client, "GET", "https://localhost/a.html", "Accept-Encoding", "gzip")
		tag := response.Header.Get("ETag")
		again, _ := fetch(t, client, "GET", "https://localhost/a.html", "Accept-Encoding", "gzip", "If-None-Match", tag)
		if !strings.HasPrefix(tag, "W/") || again.StatusCode != 304 || again.Header.Get("ETag") != tag || again.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %s: %s %v", name, tag, again.Status, again.Header)
		}
		partial, body := fetch(t, client, "GET", "https://localhost/a.html", "Accept-Encoding", "gzip", "Range", "bytes=5-9", "If-Range", tag)
		if partial.StatusCode != 200 || partial.Header.Get("Content-Encoding") != "gzip" || len(body) < 10 {
			t.Errorf("%s: a weak tag is no condition for a range: %s %v", name, partial.Status, partial.Header)
		}
	}
}

// Content comes through as the target writes it, trailers behind it, and events where they are to be compressed too.
func TestCompressedStreamsAreFlushed(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		w.Header().Set("Trailer", "X-Sum, Content-Digest")
		for text := range next {
			if text == "" {
				break
			}
			_, _ = io.WriteString(w, text)
			w.(http.Flusher).Flush()
		}
		w.Header().Set("X-Sum", "3")
		w.Header().Set("Content-Digest", "sha-256=:x:")
	})
	e := startFile(t, `sites: [{hosts: [localhost], compress: {types: [text/plain, text/event-stream]}, routes: [{to: %q}]}]`, target)
	for name, client := range e.everyClient(t) {
		for _, c := range []struct{ kind, accept, coding string }{{"text/plain", "zstd, br, gzip", "zstd"}, {"text/event-stream", "br, gzip", "gzip"}, {"text/plain", "br", ""}} {
			request, _ := http.NewRequest("GET", "https://localhost/?type="+c.kind, nil)
			request.Header.Set("Accept-Encoding", c.accept)
			first := make(chan struct{})
			go func() { defer close(first); next <- "data: 0\n\n" }()
			response, err := client.Do(request)
			<-first
			if err != nil {
				t.Fatal(err)
			}
			if got := response.Header.Get("Content-Encoding"); got != c.coding {
				t.Errorf("%s: %s: %v", name, c.kind, response.Header)
			}
			content := decoding(t, c.coding, response.Body)
			for i := range 5 {
				text := fmt.Sprintf("data: %d\n\n", i)
				if i > 0 {
					next <- text
				}
				room := make([]byte, len(text))
				if _, err := io.ReadFull(content, room); err != nil || string(room) != text {
					t.Fatalf("%s: %s: %q %v", name, c.kind, room, err)
				}
			}
			next <- ""
			if rest, err := io.ReadAll(content); err != nil || len(rest) > 0 {
				t.Errorf("%s: %q %v", name, rest, err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			if got, digest := response.Trailer.Get("X-Sum"), response.Trailer.Get("Content-Digest"); got != "3" || (digest == "") != (c.coding != "") {
				t.Errorf("%s: %s: trailers %v", name, c.kind, response.Trailer)
			}
			response.Body.Close()
		}
	}
}

// A response that its target breaks off is cut off for the client as well, and never ends as if it were whole.
func TestACompressedResponseThatBreaksOffIsNotWhole(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("half of a response, ", 5000)
	l := listen(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				request, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
				if request.URL.Path == "/chunked" {
					_, _ = fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", head, len(text), text)
				} else {
					_, _ = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, 2*len(text), text)
				}
			}()
		}
	}()
	e := startFile(t, `sites: [{hosts: [localhost], compress: true, routes: [{to: "http://%s"}, {path: /buffered, to: "http://%[1]s", buffer: {response: 64KiB}}]}]`, l.Addr())
	for name, client := range e.everyClient(t) {
		for _, path := range []string{"/", "/chunked", "/buffered"} {
			for _, accept := range []string{"zstd", "br", "gzip"} {
				request, _ := http.NewRequest("GET", "https://localhost"+path, nil)
				request.Header.Set("Accept-Encoding", accept)
				response, err := client.Do(request)
				if err != nil {
					continue // it was cut off before its head
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err == nil {
					t.Errorf("%s: %s: the response (%s) ended as if it were whole", name, path, accept)
				}
				if coding := response.Header.Get("Content-Encoding"); coding != "" {
					if _, err := io.ReadAll(decoding(t, coding, bytes.NewReader(append(body, make([]byte, 0)...)))); len(body) > 20 && err == nil {
						t.Errorf("%s: %s: the coding (%s) ended as if it were whole", name, path, coding)
					}
				}
			}
		}
	}
}

// Clients that go away while their response is encoded, and others beside them, get their own content alone;
// encoders serve one after the other.
func TestEncodersServeOneClientAtATime(t *testing.T) {
	t.Parallel()
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		line := []byte("user " + r.URL.Query().Get("user") + " ")
		for range 2000 {
			if _, err := w.Write(bytes.Repeat(line, 10)); err != nil {
				return
			}
		}
	})
	e := startFile(t, `sites: [{hosts: [localhost], compress: true, routes: [{to: %q}]}]`, target)
	for name, client := range e.everyClient(t) {
		ended := make(chan error)
		const users, rounds = 6, 4
		for user := range users {
			go func() {
				var err error
				for round := range rounds {
					coding := []string{"zstd", "gzip"}[(user+round)%2]
					err = errors.Join(err, ownContent(t, client, user, coding, round%2 == 1 && user%2 == 0))
				}
				ended <- err
			}()
		}
		for range users {
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func ownContent(t *testing.T, client *http.Client, user int, coding string, leaves bool) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("https://localhost/?user=%d", user), nil)
	request.Header.Set("Accept-Encoding", coding)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.Header.Get("Content-Encoding") != coding {
		return fmt.Errorf("user %d: %v", user, response.Header)
	}
	if leaves {
		_, err := io.ReadFull(response.Body, make([]byte, 100))
		return err
	}
	content, err := io.ReadAll(decoding(t, coding, response.Body))
	want := fmt.Sprintf("user %d ", user)
	if err != nil || len(content) != 20_000*len(want) || strings.Count(string(content), want) != 20_000 {
		return fmt.Errorf("user %d got %d bytes: %.40q, %v", user, len(content), content, err)
	}
	return nil
}

// A response whose client must have the head before it says more does not wait for content, and a client's memory
// for encoders is bounded: further responses are not encoded.
func TestEncodersHaveABoundedMemory(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, strings.Repeat("x", 5000))
		w.(http.Flusher).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) })
	e := startFile(t, `
limits: {buffers: 4MiB}
sites: [{hosts: [localhost], compress: true, routes: [{to: %q}]}]`, target)
	client := e.everyClient(t)["h2"]
	codings := map[string]int{}
	for range 6 {
		request, _ := http.NewRequest("GET", "https://localhost/", nil)
		request.Header.Set("Accept-Encoding", "gzip")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		codings[response.Header.Get("Content-Encoding")]++
	}
	if codings["gzip"] == 0 || codings["gzip"] > 3 || codings[""] == 0 {
		t.Errorf("%v", codings)
	}
}
