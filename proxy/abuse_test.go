package proxy_test

//lint:file-ignore SA1019 the server under test speaks x/net/http2 too.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/config"
	"padlock/internal/servicetest"
	"padlock/traffic"
)

// cut waits until a client has been cut for a reason, and until the log says so.
func (e *edge) cut(t *testing.T, why traffic.Reason) {
	t.Helper()
	said := "reason=" + why.String() + " "
	for deadline := time.Now().Add(20 * time.Second); e.server.Traffic().Rejected[why] == 0 || !strings.Contains(e.log.String(), said); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nobody was cut for %s: %v\n%s", why, e.server.Traffic().Rejected, e.log.String())
		}
	}
}

// gone waits until padlock has closed a connection.
func gone(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

func (e *edge) one(t *testing.T, text string) *tls.Conn {
	t.Helper()
	c := e.tls()
	c.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", e.address, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, text)
	return conn
}

// framed is a client of HTTP/2 that sends what it likes.
type framed struct {
	*tls.Conn
	*http2.Framer
}

func (e *edge) two(t *testing.T) framed {
	t.Helper()
	c := e.tls()
	c.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", e.address, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f := framed{conn, http2.NewFramer(conn, conn)}
	f.AllowIllegalWrites = true
	_, _ = io.WriteString(conn, http2.ClientPreface)
	_ = f.WriteSettings()
	return f
}

func fields(lines ...string) []byte {
	var block bytes.Buffer
	coder := hpack.NewEncoder(&block)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		_ = coder.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	return block.Bytes()
}

var request = []string{":method=POST", ":scheme=https", ":authority=localhost", ":path=/"}

func (f framed) post(id uint32, end bool, more ...string) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fields(append(request[:4:4], more...)...), EndStream: end, EndHeaders: true})
}

// Whoever is cut for what it did is counted under its reason, and the log says from where it came.
func TestWhoeverIsCutIsCountedAndTold(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ws":
			conn, _, _ := http.NewResponseController(w).Hijack()
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
		case "/large":
			for range 100 {
				if _, err := io.WriteString(w, large); err != nil {
					return
				}
			}
		case "/hang":
			<-r.Context().Done()
		default:
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})
	const head = "POST / HTTP/1.1\r\nHost: localhost\r\n"
	tcp := func(t *testing.T, e *edge) net.Conn {
		c, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for name, c := range map[string]struct {
		why traffic.Reason
		do  func(t *testing.T, e *edge)
	}{
		"nothing instead of a handshake": {traffic.SlowHandshake, func(t *testing.T, e *edge) { gone(t, tcp(t, e)) }},
		"half a hello": {traffic.SlowHandshake, func(t *testing.T, e *edge) {
			c := tcp(t, e)
			_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3})
			gone(t, c)
		}},
		"h1: half a head":         {traffic.SlowHeader, func(t *testing.T, e *edge) { gone(t, e.one(t, "GET / HT")) }},
		"h1: half a body":         {traffic.SlowBody, func(t *testing.T, e *edge) { gone(t, e.one(t, head+"Content-Length: 10\r\n\r\nhalf")) }},
		"h1: a malformed request": {traffic.Malformed, func(t *testing.T, e *edge) { gone(t, e.one(t, "GET / HTTP/1.1\nHost: localhost\n\n")) }},
		"h1: empty lines":         {traffic.Malformed, func(t *testing.T, e *edge) { gone(t, e.one(t, strings.Repeat("\r\n", 10))) }},
		"h1: a malformed body":    {traffic.Malformed, func(t *testing.T, e *edge) { gone(t, e.one(t, head+"Transfer-Encoding: chunked\r\n\r\nzz\r\n")) }},
		"h1: a large head":        {traffic.HeaderSize, func(t *testing.T, e *edge) { gone(t, e.one(t, head+"X: "+large)) }},
		"h1: many fields":         {traffic.HeaderSize, func(t *testing.T, e *edge) { gone(t, e.one(t, head+strings.Repeat("X: y\r\n", 201)+"\r\n")) }},
		"h1: answers are not read": {traffic.SlowReader, func(t *testing.T, e *edge) {
			e.one(t, "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
			e.cut(t, traffic.SlowReader)
		}},
		"h1: a silent WebSocket": {traffic.IdleTunnel, func(t *testing.T, e *edge) {
			gone(t, e.one(t, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"))
		}},
		"h2: half a preface": {traffic.SlowHeader, func(t *testing.T, e *edge) {
			c := e.tls()
			c.NextProtos = []string{"h2"}
			conn, err := tls.Dial("tcp", e.address, c)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, http2.ClientPreface[:5])
			gone(t, conn)
		}},
		"h2: half a head": {traffic.SlowHeader, func(t *testing.T, e *edge) {
			f := e.two(t)
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(request...)})
			gone(t, f)
		}},
		"h2: half a body": {traffic.SlowBody, func(t *testing.T, e *edge) {
			f := e.two(t)
			f.post(1, false, "content-length=10")
			_ = f.WriteData(1, false, []byte("half"))
			e.cut(t, traffic.SlowBody)
		}},
		"h2: answers are not granted a window": {traffic.SlowReader, func(t *testing.T, e *edge) {
			f := e.two(t)
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(":method=GET", ":scheme=https", ":authority=localhost", ":path=/large"), EndStream: true, EndHeaders: true})
			e.cut(t, traffic.SlowReader)
		}},
		"h2: answers are not read": {traffic.SlowReader, func(t *testing.T, e *edge) {
			f := e.two(t)
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			_ = f.WriteWindowUpdate(0, 1<<30)
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(":method=GET", ":scheme=https", ":authority=localhost", ":path=/large"), EndStream: true, EndHeaders: true})
			e.cut(t, traffic.SlowReader)
		}},
		"h2: a malformed request": {traffic.Malformed, func(t *testing.T, e *edge) { e.two(t).post(1, true, "connection=close") }},
		"h2: a malformed frame":   {traffic.Malformed, func(t *testing.T, e *edge) { _ = e.two(t).WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) }},
		"h2: many fields": {traffic.HeaderSize, func(t *testing.T, e *edge) {
			e.two(t).post(1, true, strings.Split(strings.Repeat("x=y\n", 201), "\n")[:201]...)
		}},
		"h2: fields without end": {traffic.HeaderSize, func(t *testing.T, e *edge) {
			f := e.two(t)
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(request...)})
			for range 200 {
				_ = f.WriteContinuation(1, false, nil)
			}
			gone(t, f)
		}},
		"h2: resets": {traffic.Resets, func(t *testing.T, e *edge) {
			f := e.two(t)
			for i := range uint32(60) {
				f.post(2*i+1, false)
				_ = f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
			}
			gone(t, f)
		}},
		"h2: frames": {traffic.NoopFrames, func(t *testing.T, e *edge) {
			f := e.two(t)
			for range 200 {
				_ = f.WritePing(false, [8]byte{})
			}
			gone(t, f)
		}},
		"h3: half a body": {traffic.SlowBody, func(t *testing.T, e *edge) {
			reader, writer := io.Pipe()
			defer writer.Close()
			response, err := e.three(t, nil).Post("https://localhost/", "text/plain", reader)
			if err != nil || response.StatusCode != 408 {
				t.Error(response, err)
			}
		}},
		"h3: many fields": {traffic.HeaderSize, func(t *testing.T, e *edge) {
			r, _ := http.NewRequest("GET", "https://localhost/", nil)
			for i := range 201 {
				r.Header.Set(fmt.Sprintf("X-%d", i), "y")
			}
			response, err := e.three(t, nil).Do(r)
			if err != nil || response.StatusCode != 431 {
				t.Error(response, err)
			}
		}},
		"h3: a malformed request": {traffic.Malformed, func(t *testing.T, e *edge) {
			s := e.quic(t).stream(t)
			_, _ = s.Write(qpackRequest("/", "expect", "everything"))
			_, _ = io.Copy(io.Discard, s)
		}},
		"h3: answers are not read": {traffic.SlowReader, func(t *testing.T, e *edge) {
			response, err := e.three(t, nil).Get("https://localhost/large")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			e.cut(t, traffic.SlowReader)
		}},
		"h3: resets": {traffic.Resets, func(t *testing.T, e *edge) {
			q := e.quic(t)
			for range 200 {
				s, err := q.OpenStreamSync(t.Context())
				if err != nil {
					break
				}
				_, _ = s.Write(qpackRequest("/hang", "x-a", "b"))
				time.Sleep(time.Millisecond)
				s.CancelWrite(0x10c)
				s.CancelRead(0x10c)
			}
			select {
			case <-q.Context().Done():
			case <-time.After(10 * time.Second):
				t.Error("the connection is still open")
			}
			var application *quic.ApplicationError
			if err := context.Cause(q.Context()); !errors.As(err, &application) || application.ErrorCode != 0x107 {
				t.Errorf("it ended with %v", err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			why := c.why
			e := start(t, target, func(c *config.Config) {
				// Nothing else can be what a client is cut for, however slow the machine is.
				h := &c.Timeouts
				h.Handshake, h.Header, h.BodyIdle, h.Send, h.Tunnel, h.Shutdown = time.Minute, time.Minute, time.Minute, time.Minute, time.Minute, time.Second
				for _, timeout := range map[traffic.Reason][]*time.Duration{
					traffic.SlowHandshake: {&h.Handshake}, traffic.SlowHeader: {&h.Header}, traffic.SlowBody: {&h.BodyIdle},
					traffic.SlowReader: {&h.BodyIdle, &h.Send}, traffic.IdleTunnel: {&h.Tunnel},
				}[why] {
					*timeout = 500 * time.Millisecond
				}
				c.Limits.Resets, c.Limits.NoopFrames = 50, 100
			})
			c.do(t, e)
			e.cut(t, c.why)
			if text := e.log.String(); !strings.Contains(text, `from="127.0.0.1 (`) {
				t.Errorf("it is not said from where:\n%s", text)
			}
			for why, n := range e.server.Traffic().Rejected {
				if n > 0 && traffic.Reason(why) != c.why {
					t.Errorf("also cut for %s", traffic.Reason(why))
				}
			}
		})
	}
}

// A client that leaves in the middle of its content has broken no rule, whatever ends its connection, and whatever
// padlock does at that moment: it is not counted as malformed.
func TestAClientThatLeavesIsNotMalformed(t *testing.T) {
	reached := make(chan struct{}, 1)
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
	})
	reset := func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	const head = "POST / HTTP/1.1\r\nHost: localhost\r\n"

	for name, leave := range map[string]func(t *testing.T, e *edge){
		"h1: a reset in the content": func(t *testing.T, e *edge) {
			c := e.one(t, head+"Content-Length: 10\r\n\r\nhalf")
			<-reached
			reset(c.NetConn())
		},
		"h1: a reset between two chunks": func(t *testing.T, e *edge) {
			c := e.one(t, head+"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
			<-reached
			reset(c.NetConn())
		},
		"h1: the end of the connection in the content": func(t *testing.T, e *edge) {
			c := e.one(t, head+"Content-Length: 10\r\n\r\nhalf")
			<-reached
			c.NetConn().Close()
		},
		"h1: a reset before 100 Continue": func(t *testing.T, e *edge) {
			c := e.one(t, head+"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
			reset(c.NetConn())
			select { // whether padlock saw the head before the reset
			case <-reached:
			case <-time.After(200 * time.Millisecond):
			}
		},
		"h2: a reset of the connection": func(t *testing.T, e *edge) {
			f := e.two(t)
			f.post(1, false, "content-length=10")
			_ = f.WriteData(1, false, []byte("half"))
			<-reached
			reset(f.NetConn())
		},
		"h2: a reset of the stream": func(t *testing.T, e *edge) {
			f := e.two(t)
			f.post(1, false, "content-length=10")
			_ = f.WriteData(1, false, []byte("half"))
			<-reached
			_ = f.WriteRSTStream(1, http2.ErrCodeCancel)
		},
		"h3: a reset of the stream": func(t *testing.T, e *edge) {
			s := e.quic(t).stream(t)
			_, _ = s.Write(qpackRequest("/", "x-a", "b"))
			_, _ = s.Write([]byte{0, 10, 'h', 'a', 'l', 'f'})
			<-reached
			s.CancelWrite(0x10c)
		},
		"h3: the end of the connection": func(t *testing.T, e *edge) {
			q := e.quic(t)
			s := q.stream(t)
			_, _ = s.Write(qpackRequest("/", "x-a", "b"))
			_, _ = s.Write([]byte{0, 10, 'h', 'a', 'l', 'f'})
			<-reached
			_ = q.CloseWithError(0x100, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, target, func(c *config.Config) { c.Timeouts.Shutdown = time.Second })
			leave(t, e)
			_ = e.stop() // which waits for all requests
			for why, n := range e.server.Traffic().Rejected {
				if n > 0 {
					t.Errorf("rejected for %s:\n%s", traffic.Reason(why), e.log.String())
				}
			}
		})
	}
}

// caller is a client of QUIC that sends what it likes.
type caller struct{ *quic.Conn }

func (e *edge) quic(t *testing.T) caller {
	t.Helper()
	c := e.tls()
	c.NextProtos = []string{"h3"}
	conn, err := quic.DialAddr(t.Context(), e.address, c, servicetest.Patient(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0x100, "") })
	return caller{conn}
}

func (c caller) stream(t *testing.T) *quic.Stream {
	t.Helper()
	s, err := c.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// qpackRequest is a HEADERS frame (RFC 9114 section 7.2.2) that asks for a path with one field more (RFC 9204 section 4.5).
func qpackRequest(path, name, value string) []byte {
	literal := func(b []byte, name, value string) []byte {
		b = append(b, 0x20|byte(min(len(name), 7)))
		if len(name) >= 7 {
			b = append(b, byte(len(name)-7))
		}
		b = append(b, name...)
		return append(append(b, byte(len(value))), value...)
	}
	block := []byte{0, 0, 0xc0 | 17, 0xc0 | 23} // GET, https
	block = literal(literal(literal(block, ":authority", "localhost"), ":path", path), name, value)
	return append([]byte{1, byte(len(block))}, block...)
}

// Where there are as many connections as there may be, the one that has been idle for the longest makes room.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	e := start(t, backend(t, func(http.ResponseWriter, *http.Request) {}), func(c *config.Config) { c.Limits.Connections = 20 })
	var held []*tls.Conn
	for range 19 { // one place is for whoever comes next
		c := e.one(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for name, client := range e.clients(t) {
		began := time.Now()
		if got, _ := fetch(t, client, "GET", "https://localhost/"); got.StatusCode != 200 {
			t.Errorf("%s: %s", name, got.Status)
		}
		if took := time.Since(began); took > 20*time.Second { // the idle ones may be so for longer
			t.Errorf("%s: after %s", name, took)
		}
	}
	gone(t, held[0])
	e.cut(t, traffic.Connections)
	if n := e.server.Traffic().Connections; n > 20 {
		t.Errorf("%d connections", n)
	}
}

// Handshakes that hang do not keep out those that do not, and are not pushed out before they have had a second.
func TestTheOldestHandshakeMakesRoom(t *testing.T) {
	t.Parallel()
	e := start(t, backend(t, func(http.ResponseWriter, *http.Request) {}), func(c *config.Config) {
		c.Limits.Handshakes, c.Timeouts.Handshake, c.Timeouts.Header = 10, time.Minute, time.Minute
	})
	for _, address := range []string{e.address, e.plain} {
		var held []net.Conn
		before := e.server.Traffic().Rejected[traffic.Handshakes]
		for range 11 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			held = append(held, c)
		}
		for e.server.Traffic().Rejected[traffic.Handshakes] == before { // until one waits, and all places are taken
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		if address == e.address {
			if got, _ := fetch(t, e.clients(t)["h1"], "GET", "https://localhost/"); got.StatusCode != 200 {
				t.Error(got.Status)
			}
		} else if got, err := http.DefaultTransport.RoundTrip(plainRequest(e.plain)); err != nil || got.StatusCode != 308 {
			t.Error(got, err)
		}
		if took := time.Since(began); took > 20*time.Second { // those that hang may do so for a minute
			t.Errorf("served after %s", took)
		}
		// Which one padlock began with is not said.
		ended := make(chan struct{}, len(held))
		for _, c := range held {
			go func() { _, _ = io.Copy(io.Discard, c); ended <- struct{}{} }()
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: nobody has made room", address)
		}
	}
	e.cut(t, traffic.Handshakes)
}

func plainRequest(address string) *http.Request {
	r, _ := http.NewRequest("GET", "http://"+address+"/", nil)
	r.Host = "localhost"
	return r
}

// Of one address there are only so many connections, by TCP and QUIC together; others have theirs.
func TestOneAddressHasOnlySoManyConnections(t *testing.T) {
	e := start(t, backend(t, func(http.ResponseWriter, *http.Request) {}), func(c *config.Config) { c.Limits.PerAddress = 3 })
	held := []*tls.Conn{e.one(t, ""), e.one(t, ""), e.one(t, "")}
	c, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	gone(t, c)
	e.cut(t, traffic.PerAddress)
	if _, err := e.three(t, nil).Get("https://localhost/"); err == nil {
		t.Error("a fourth by QUIC")
	}
	other := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	if c, err := tls.DialWithDialer(other, "tcp", e.address, e.tls()); err != nil {
		t.Errorf("another address: %v", err)
	} else {
		c.Close()
	}
	held[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := tls.Dial("tcp", e.address, e.tls()); err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("its place is not given back")
		}
	}
}

// What comes to the port of plain HTTP and is no HTTP is counted and told, whether it was answered, ended by itself, or never came whole; requests
// and connections without a byte are not.
func TestWhatIsNoHTTPOnThePlainPortIsTold(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		text string
		end  bool // the client ends
		why  traffic.Reason
		said string
	}{
		"garbage":                 {"garbage\r\n\r\n", false, traffic.Malformed, "speaks an unknown protocol"},
		"bytes without a line":    {"\x00\x01\x02\xff", true, traffic.Malformed, "speaks an unknown protocol"},
		"SSH":                     {"SSH-2.0-OpenSSH_9\r\n", true, traffic.Malformed, "speaks SSH"},
		"HTTP with an odd host":   {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", false, traffic.Malformed, "speaks plain HTTP"},
		"a head that is large":    {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", false, traffic.HeaderSize, "speaks plain HTTP"},
		"a head that never ends":  {"GET / HTTP/1.1\r\nHost: a\r\n", false, traffic.SlowHeader, "on the port of plain HTTP"},
		"bytes that are no words": {"\x00\x01", false, traffic.Malformed, "speaks an unknown protocol"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := start(t, "http://127.0.0.1:1", func(c *config.Config) { c.Timeouts.Header, c.Timeouts.BodyIdle = time.Second, 2*time.Second })
			for _, quiet := range []string{"", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n"} {
				conn, err := net.Dial("tcp", e.plain)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(conn, quiet)
				if quiet != "" {
					gone(t, conn)
				}
				conn.Close()
			}
			if cuts := e.server.Traffic().Rejected; cuts != [traffic.Reasons]uint64{} {
				t.Fatalf("requests are abuse: %v", cuts)
			}

			conn, err := net.Dial("tcp", e.plain)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, c.text)
			if c.end {
				conn.Close()
			} else {
				gone(t, conn)
			}
			e.cut(t, c.why)
			all := uint64(0)
			for _, n := range e.server.Traffic().Rejected {
				all += n
			}
			if all != 1 || !strings.Contains(e.log.String(), c.said) {
				t.Errorf("%d are counted, and the log says\n%s", all, e.log.String())
			}
		})
	}
}
