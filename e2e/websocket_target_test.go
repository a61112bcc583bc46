//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"padlock/proxy/message"
)

// wsTarget is an application that says exactly the bytes that a case wants, and nothing that it does not.
type wsTarget struct {
	address string

	mu      sync.Mutex
	scripts map[string]*wsScript // by path
	strays  []string             // what came that no case expects
}

type wsScript struct {
	t    *testing.T
	run  func(*wsPeer)
	done chan struct{} // its connection has ended
}

// wsPeer is the target's side of one connection.
type wsPeer struct {
	t *testing.T
	*net.TCPConn
	r       *bufio.Reader
	request *http.Request
}

func startTarget(t *testing.T) *wsTarget {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &wsTarget{address: l.Addr().String(), scripts: map[string]*wsScript{}}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { a.serve(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		open.Wait()
		for _, what := range a.strays {
			t.Errorf("a request that nobody expects: %s", what)
		}
	})
	return a
}

// expect says what is done with the request for a path, which may come once.
func (a *wsTarget) expect(t *testing.T, path string, run func(*wsPeer)) *wsScript {
	s := &wsScript{t, run, make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.scripts[path] = s
	t.Cleanup(func() { // what it says to t must come before the end of t
		a.mu.Lock()
		unasked := a.scripts[path] == s
		if unasked {
			delete(a.scripts, path)
		}
		a.mu.Unlock()
		if !unasked {
			<-s.done
		}
	})
	return s
}

func (a *wsTarget) serve(c *net.TCPConn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(90 * time.Second))
	r := bufio.NewReader(c)
	request, err := http.ReadRequest(r)
	if err != nil {
		return // a connection that was never used
	}
	a.mu.Lock()
	s := a.scripts[request.URL.Path]
	delete(a.scripts, request.URL.Path)
	if s == nil {
		a.strays = append(a.strays, request.Method+" "+request.RequestURI)
	}
	a.mu.Unlock()
	if s == nil {
		return
	}
	defer close(s.done)
	s.run(&wsPeer{s.t, c, r, request})
	c.Close()
}

// wait is for the target's side to end.
func (s *wsScript) wait() {
	select {
	case <-s.done:
	case <-time.After(90 * time.Second):
		s.t.Error("the target's connection has not ended")
	}
}

// switching is the head that accepts, with more fields.
func (p *wsPeer) switching(fields ...string) string {
	head := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	return head + "Sec-WebSocket-Accept: " + message.WebSocketAccept(p.request.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\n"
}

func (p *wsPeer) accept(fields ...string) { p.say([]byte(p.switching(fields...))) }

func (p *wsPeer) say(b []byte) {
	if _, err := p.Write(b); err != nil {
		p.t.Errorf("the target cannot write: %v", err)
	}
}

// refuse answers with a whole response, the last on its connection.
func (p *wsPeer) refuse(head, body string) {
	p.say(fmt.Appendf(nil, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body))
}

// hear expects bytes, exactly.
func (p *wsPeer) hear(want []byte) { hears(p.t, "the target", p.r, want) }

// end expects that nothing more comes.
func (p *wsPeer) end() {
	if rest, err := io.ReadAll(p.r); len(rest) > 0 || err != nil && !errors.Is(err, net.ErrClosed) {
		p.t.Errorf("after all, the target got %d bytes %.40x: %v", len(rest), rest, err)
	}
}

// gone expects that the connection ends, in whatever way.
func (p *wsPeer) gone() {
	var timeout net.Error
	if _, err := io.Copy(io.Discard, p.r); errors.As(err, &timeout) && timeout.Timeout() {
		p.t.Error("the target was never told that its client is gone")
	}
}

func hears(t *testing.T, who string, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(r, got)
	switch {
	case err != nil && n < len(want):
		t.Errorf("%s got %d bytes of %d, %.40x: %v", who, n, len(want), got[:n], err)
	case !bytes.Equal(got, want):
		t.Errorf("%s got %.40x…, not %.40x…", who, got, want)
	}
}
