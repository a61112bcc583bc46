package http1

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"padlock/proxy/message"
)

// ask sends a GET and reads the whole answer.
func ask(t *testing.T, tr *Transport) *message.Response {
	t.Helper()
	var ctx message.Context
	response, err := tr.RoundTrip(&ctx, &message.Request{Method: "GET", Target: "/", Host: "localhost"}, noInterim{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response
}

// What a backend says of its connections is obeyed, a second early, and never makes them last longer than the configuration does.
func TestABackendSaysHowLongItsConnectionsLast(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]time.Duration{
		"":                                     time.Hour,
		"Keep-Alive: timeout=100":              99 * time.Second,
		"Keep-Alive: timeout=100, max=5":       99 * time.Second,
		"Keep-Alive: max=5, Timeout = \"100\"": 99 * time.Second,
		"Keep-Alive: timeout=1000000":          time.Hour,
		"Keep-Alive: max=5":                    time.Hour,
		"Keep-Alive: timeout=soon":             time.Hour,
		"Keep-Alive: timeout=9999999999999999": time.Hour,
		"Keep-Alive: timeout=1":                0,
		"Keep-Alive: timeout=0":                0,
	} {
		tr := NewTransport(TransportOptions{
			Network: "tcp", Address: answering(t, "HTTP/1.1 200 OK\r\n"+strings.TrimPrefix(field+"\r\n", "\r\n")+"Content-Length: 5\r\n\r\nhello"),
			Connect: time.Minute, ResponseHeader: time.Minute, Idle: time.Hour,
		})
		began := time.Now()
		ask(t, tr)
		tr.mu.Lock()
		switch {
		case want == 0 && len(tr.idle) > 0:
			t.Errorf("%q: the connection is kept", field)
		case want > 0 && len(tr.idle) != 1:
			t.Errorf("%q: %d connections are kept", field, len(tr.idle))
		case want > 0:
			if until := tr.idle[0].until; until.Before(began.Add(want)) || until.After(time.Now().Add(want)) {
				t.Errorf("%q: the connection is kept for %v, not %v", field, until.Sub(began), want)
			}
		}
		tr.mu.Unlock()
		tr.Close()
	}
}

// A connection that is too old is given up, and not only left alone: the backend may wait for its end.
func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	ended := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Read(make([]byte, 1024))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		_, err = c.Read(make([]byte, 1024))
		ended <- err
	}()
	tr := NewTransport(TransportOptions{Network: "tcp", Address: l.Addr().String(), Connect: time.Minute, ResponseHeader: time.Minute, Idle: 100 * time.Millisecond})
	t.Cleanup(tr.Close)
	ask(t, tr)
	select {
	case err := <-ended:
		if err != io.EOF {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the connection stays open")
	}
	if n := tr.Idle(); n > 0 {
		t.Errorf("%d connections are kept", n)
	}
}

// At most so many connections are kept, and none where each request has its own.
func TestOnlySoManyConnectionsAreKept(t *testing.T) {
	t.Parallel()
	for _, o := range []struct {
		options TransportOptions
		want    int
	}{{TransportOptions{Connections: 2}, 2}, {TransportOptions{}, 5}, {TransportOptions{Single: true}, 0}} {
		o.options.Network, o.options.Address = "tcp", answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		o.options.Connect, o.options.ResponseHeader = time.Minute, time.Minute
		tr := NewTransport(o.options)
		var open []*message.Response
		for range 5 {
			var ctx message.Context
			response, err := tr.RoundTrip(&ctx, &message.Request{Method: "GET", Target: "/", Host: "localhost"}, noInterim{})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, response)
		}
		for _, response := range open {
			if _, err := io.ReadAll(response.Body); err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
		}
		if n := tr.Idle(); n != o.want {
			t.Errorf("%d connections are kept, not %d", n, o.want)
		}
		tr.Close()
	}
	for fields, want := range map[string]string{"": "Connection: close\r\n", "TE": "Connection: TE, close\r\n"} {
		r := &message.Request{Method: "GET", Target: "/", Host: "localhost"}
		if fields != "" {
			r.Fields.Add(fields, "trailers")
		}
		if got := string(appendRequest(nil, r, true)); strings.Count(got, "Connection: ") != 1 || !strings.Contains(got, want) {
			t.Errorf("%q", got)
		}
	}
}
