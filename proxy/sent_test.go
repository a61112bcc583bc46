package proxy_test

//lint:file-ignore SA1019 a client speaks x/net/http2.

import (
	"bufio"
	"fmt"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What a response says of its content's length, and of the connection that it came by, is one decision for all fronts.
func TestEveryFrontSendsTheSameFields(t *testing.T) {
	t.Parallel()
	e := start(t, script(t,
		"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nKeep-Alive: timeout=5\r\nX-A: b\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nUpgrade: h2c\r\nX-A: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nProxy-Connection: keep-alive\r\nX-A: b\r\n\r\nhello",
	).Addr().String(), nil)
	for name, client := range e.everyClient(t) {
		for path, want := range map[string]string{"/0": "204 []", "/1": "304 []", "/2": "200 [5]"} {
			response, err := client.Get("https://localhost" + path)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got := fmt.Sprint(response.StatusCode, " ", response.Header["Content-Length"]); got != want {
				t.Errorf("%s %s: %s", name, path, got)
			}
			for field := range response.Header {
				switch field {
				case "X-A", "Date", "Content-Length", "Alt-Svc":
				default:
					t.Errorf("%s %s: %s was sent on", name, path, field)
				}
			}
		}
	}
}

// A WebSocket has no length, whatever its target says.
func TestATunnelHasNoContentLength(t *testing.T) {
	t.Parallel()
	e := start(t, socketTarget(t, "Content-Length: 0\r\nKeep-Alive: timeout=5\r\nX-A: b\r\n"), nil)
	c := e.one(t, upgradeHead)
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := response.Header["Content-Length"]; response.StatusCode != 101 || ok || response.Header.Get("X-A") != "b" || response.Header.Get("Keep-Alive") != "" {
		t.Errorf("%s with %v", response.Status, response.Header)
	}

	f := e.two(t)
	_ = f.SetDeadline(time.Now().Add(30 * time.Second))
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.open(1)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		head, ok := frame.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		said := map[string]string{}
		for _, field := range head.Fields {
			said[field.Name] = field.Value
		}
		if _, ok := said["content-length"]; said[":status"] != "200" || ok || said["x-a"] != "b" || said["keep-alive"] != "" {
			t.Errorf("by HTTP/2: %v", said)
		}
		return
	}
}
