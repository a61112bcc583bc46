package proxy_test

//lint:file-ignore SA1019 a client speaks x/net/http2.

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"padlock/config"
	"padlock/proxy/message"
)

// marked says with each request who asks, wherever a request can say something, and checks that the answer is for the same.
type marked struct {
	client *http.Client
	user   int
	nth    int
}

func (m *marked) marker() string { return fmt.Sprintf("user-%d-request-%d", m.user, m.nth) }

// ask makes the next request. A request that ctx ends is no failure.
func (m *marked) ask(ctx context.Context, kind string) error {
	m.nth++
	marker := m.marker()
	request, err := http.NewRequestWithContext(ctx, "POST", "https://localhost/"+kind+"/"+marker+"?q="+marker, strings.NewReader(marker))
	if err != nil {
		return err
	}
	for _, name := range []string{"Authorization", "Cookie", "X-Marker", fmt.Sprintf("X-Of-%d", m.user)} {
		request.Header.Set(name, marker)
	}
	response, err := m.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case response.StatusCode != 200 || string(content) != marker || response.Header.Get("Set-Cookie") != marker:
		return fmt.Errorf("%s got %s %q with Set-Cookie %q", marker, response.Status, content, response.Header.Get("Set-Cookie"))
	}
	return nil
}

// mirror answers with the marker that a request carries, or 409 where it carries several.
func mirror(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	marker := string(content)
	user, _, _ := strings.Cut(strings.TrimPrefix(marker, "user-"), "-")
	said := []string{r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Header.Get("X-Marker"), r.Header.Get("X-Of-" + user), r.URL.Query().Get("q")}
	_, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	said = append(said, rest)
	if made, ok := r.Header["X-Made"]; ok {
		said = append(said, strings.TrimPrefix(made[0], "query q="))
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Of-") && name != "X-Of-"+user {
			said = append(said, name)
		}
	}
	for _, each := range said {
		if each != marker {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, "%q", said)
			return
		}
	}
	w.Header().Set("Set-Cookie", marker)
	switch {
	case strings.HasPrefix(r.URL.Path, "/hints/"):
		w.Header().Set("Link", marker)
		for range 3 { // a server of HTTP/2 may still read the fields when its client has left: they do not change
			w.WriteHeader(http.StatusEarlyHints)
		}
	case strings.HasPrefix(r.URL.Path, "/chunks/"):
		w.Header().Set("Trailer", "X-Sum")
		defer w.Header().Set("X-Sum", marker)
	}
	_, _ = io.WriteString(w, marker)
}

// everybody has users ask at once, each on connections of their own, and some of them leave in the middle.
func (e *edge) everybody(t *testing.T, users, requests int, leave bool, kinds ...string) {
	t.Helper()
	var all sync.WaitGroup
	var lost atomic.Int32
	for user := range users {
		clients := e.clients(t)
		m := marked{client: clients[[]string{"h1", "h2"}[user%2]], user: user}
		all.Go(func() {
			for n := range requests {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				if leave && n%4 == 1 {
					time.AfterFunc(time.Duration(n*user%7)*300*time.Microsecond, cancel)
				}
				if err := m.ask(ctx, kinds[n%len(kinds)]); err != nil && lost.Add(1) < 10 {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	for line := range strings.Lines(e.log.String()) {
		if strings.Contains(line, "panic") {
			t.Errorf("the log has %.2000s", line)
		}
	}
}

// What one request says is never another's, whoever keeps it: an encoder of HPACK keeps names and values for longer than a request.
func TestAnEncoderThatKeepsFieldsKeepsThoseOfTheirRequest(t *testing.T) {
	t.Parallel()
	e := start(t, h2cBackend(t, mirror), func(c *config.Config) {
		c.Sites[0].Fields.Request.Set = config.FieldValues{{Name: "X-Made", Value: "query {query}"}}
	})
	e.everybody(t, 16, 60, false, "plain", "chunks")
}

// Interim responses of a target come after their client has left, and its request with it.
func TestInterimResponsesComeAfterTheirRequestHasEnded(t *testing.T) {
	t.Parallel()
	e := start(t, h2cBackend(t, mirror), nil)
	e.everybody(t, 16, 60, true, "hints")
}

// A response that is buffered outlives the exchange with its target, whose connection then serves others.
func TestABufferedResponseStaysItsOwn(t *testing.T) {
	t.Parallel()
	e := start(t, backend(t, mirror), func(c *config.Config) {
		c.Sites[0].Routes[0].Buffer.Response = 64 << 10
	})
	e.everybody(t, 32, 50, true, "plain", "chunks", "hints")
}

// socketTarget opens WebSockets, and says back what it hears.
func socketTarget(t *testing.T, fields string) string {
	return backend(t, func(w http.ResponseWriter, r *http.Request) { socketEcho(w, r, fields) })
}

func socketEcho(w http.ResponseWriter, r *http.Request, fields ...string) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+strings.Join(fields, "")+
		"Sec-WebSocket-Accept: "+message.WebSocketAccept(r.Header.Get("Sec-WebSocket-Key"))+"\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

const upgradeHead = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\n\r\n"

// A server that ends says goodbye to WebSockets while their clients leave by themselves: to nobody who has left, and on no other's stream.
func TestTheGoodbyeTouchesNoTunnelThatIsOver(t *testing.T) {
	t.Parallel()
	target := socketTarget(t, "")
	for round := range 6 {
		e := start(t, target, func(c *config.Config) { c.Timeouts.Shutdown = 5 * time.Second })
		var open, left sync.WaitGroup
		leave := make(chan struct{})
		for client := range 48 {
			c := e.one(t, upgradeHead)
			open.Go(func() {
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				if response, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || response.StatusCode != 101 {
					t.Error(response, err)
				}
			})
			left.Go(func() {
				<-leave
				time.Sleep(time.Duration(client%16) * 100 * time.Microsecond)
				c.Close()
			})
		}
		for client := range 4 {
			f := e.two(t)
			const streams = 12
			for n := range uint32(streams) {
				f.open(2*n + 1)
			}
			open.Go(func() {
				_ = f.SetDeadline(time.Now().Add(30 * time.Second))
				for answered := 0; answered < streams; {
					frame, err := f.ReadFrame()
					if err != nil {
						t.Error(err)
						return
					}
					if frame.Header().Type == http2.FrameHeaders {
						answered++
					}
				}
			})
			left.Go(func() {
				<-leave
				for n := range uint32(streams) {
					_ = f.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
					time.Sleep(time.Duration(client) * 50 * time.Microsecond)
				}
				f.Close()
			})
		}
		open.Wait()
		close(leave)
		time.Sleep(time.Duration(round) * 200 * time.Microsecond)
		if err := e.stop(); err != nil {
			t.Error(err)
		}
		left.Wait()
		if log := e.log.String(); strings.Contains(log, "panic") {
			t.Errorf("the log has %.3000s", log)
		}
	}
}

// WebSockets over HTTP/2 come and go, among requests, on connections that are parked, woken and closed, while the server ends at any moment: the goodbye
// to one that is just over ends nothing, and is in no answer to somebody else.
func TestTheServerEndsWhileWebSocketsComeAndGo(t *testing.T) {
	t.Parallel()
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			socketEcho(w, r)
			return
		}
		_, _ = io.WriteString(w, r.URL.Path)
	})
	for round := range 4 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			e := start(t, target, func(c *config.Config) { c.Timeouts.Shutdown = 5 * time.Second })
			var clients sync.WaitGroup
			var requests atomic.Int32
			for range 24 {
				c := &visitor{framed: e.two(t), t: t, came: map[uint32][]byte{}, asked: map[uint32]string{}}
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				clients.Go(func() {
					defer c.Close()
					for id := uint32(1); c.visit(id); id += 4 {
						requests.Add(1)
					}
					c.check()
				})
			}

			time.Sleep(time.Duration(rand.N(2_000)) * time.Millisecond)
			if err := e.stop(); err != nil {
				t.Error(err)
			}
			clients.Wait()
			t.Logf("%d visits", requests.Load())
			if log := e.log.String(); strings.Contains(log, "panic") {
				t.Errorf("the log has %.3000s", log)
			}
		})
	}
}

// visitor is a client that opens a WebSocket and asks for something beside it, again and again.
type visitor struct {
	framed
	t     *testing.T
	came  map[uint32][]byte // on each stream
	asked map[uint32]string // where that is no WebSocket
	left  bool              // it is told to go
}

// visit reports whether another visit may follow.
func (v *visitor) visit(id uint32) bool {
	v.open(id)
	if !v.await(id, func(f http2.Frame) bool { return f.Header().Type == http2.FrameHeaders }) {
		return false
	}
	if rand.N(2) == 0 {
		_ = v.WriteData(id, false, []byte(socketFrame))
	}
	if rand.N(20) == 0 {
		time.Sleep(time.Duration(1_000+rand.N(300)) * time.Millisecond) // it is parked meanwhile
	}
	path := fmt.Sprintf("/%p/%d", v, id)
	v.asked[id+2] = path
	_ = v.WriteHeaders(http2.HeadersFrameParam{StreamID: id + 2, EndHeaders: true, EndStream: true, BlockFragment: fields(
		":method=GET", ":scheme=https", ":authority=localhost", ":path="+path)})
	switch rand.N(4) {
	case 0:
		_ = v.WriteRSTStream(id, http2.ErrCodeCancel)
	case 1:
		_ = v.WriteData(id, true, nil)
	case 2:
		if rand.N(8) == 0 {
			return false
		}
	}
	return v.await(id+2, func(f http2.Frame) bool {
		data, ok := f.(*http2.DataFrame)
		return ok && data.StreamEnded()
	}) && id < 150
}

// await reads until a stream has what is waited for. It reports false where that will not come.
func (v *visitor) await(id uint32, enough func(http2.Frame) bool) bool {
	for !v.left {
		f, err := v.ReadFrame()
		if err != nil {
			return false
		}
		of := f.Header().StreamID
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			v.left = true
		case *http2.RSTStreamFrame:
			if of == id {
				return false
			}
		case *http2.DataFrame:
			v.came[of] = append(v.came[of], f.Data()...)
		}
		if of == id && enough(f) {
			return true
		}
	}
	return false
}

// socketFrame is a message of one byte. The target sends it back as it is.
const socketFrame = "\x82\x01x"

// check finds what is in no place of its own: a WebSocket has messages and one Close, anything else what was asked for.
func (v *visitor) check() {
	for id, content := range v.came {
		want := v.asked[id]
		if want == "" {
			want = socketFrame + "\x88\x02\x03\xe9"
			if !bytes.HasPrefix(content, []byte(socketFrame)) {
				want = want[len(socketFrame):]
			}
		}
		if !strings.HasPrefix(want, string(content)) {
			v.t.Errorf("stream %d has %q, not %q", id, content, want)
		}
	}
}

// open asks for a WebSocket (RFC 8441).
func (f framed) open(id uint32) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: fields(
		":method=CONNECT", ":protocol=websocket", ":scheme=https", ":authority=localhost", ":path=/ws", "sec-websocket-version=13")})
}
