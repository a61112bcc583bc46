package upstream

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"padlock/config"
	"padlock/proxy/message"
)

// counting is a listener that counts connections.
type counting struct {
	net.Listener
	n atomic.Int32
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// group is one of a single target.
func groupOf(t *testing.T, to string, change func(*config.Upstream)) *Group {
	t.Helper()
	target, err := config.ParseTarget(to)
	if err != nil {
		t.Fatal(err)
	}
	u := &config.Upstream{To: []config.Backend{{Target: target}}, Insecure: true}
	if change != nil {
		change(u)
	}
	g, err := new(Targets).Group(u, config.Timeouts{Connect: 20 * time.Second, ResponseHeader: config.Patience(20 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// said is what a target says to a request, or the error.
func said(g *Group, r *message.Request) string {
	var a Attempt
	defer a.End()
	response, err := g.RoundTrip(new(message.Context), r, nil, &a)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func plainGet(fields ...message.Field) *message.Request {
	return &message.Request{Method: "GET", Host: "localhost", Target: "/", Proto: "HTTP/1.1", Fields: fields, Conn: &message.Conn{}}
}

// An https target is spoken to by HTTP/2 where it takes that, and by HTTP/1.1 where not, or for what authenticates a
// connection; the configuration may say which.
func TestHTTPSTargetsAgreeOnAProtocol(t *testing.T) {
	proto := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	})
	start := func(protocols ...string) (*httptest.Server, *counting) {
		s := httptest.NewUnstartedServer(proto)
		if len(protocols) == 1 {
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetHTTP2(protocols[0] == "h2")
			s.Config.Protocols.SetHTTP1(protocols[0] != "h2")
		}
		s.EnableHTTP2 = protocols[0] == "h2" || len(protocols) == 2
		l := &counting{Listener: s.Listener}
		s.Listener = l
		s.StartTLS()
		t.Cleanup(s.Close)
		return s, l
	}
	both, _ := start("h2", "http/1.1")
	one, connections := start("http/1.1")
	two, _ := start("h2")
	ntlm := message.Field{Name: "Authorization", Value: "Negotiate abc"}

	for _, c := range []struct {
		to, protocol string
		fields       []message.Field
		want         string
	}{
		{both.URL, "", nil, "HTTP/2.0"}, {both.URL, "auto", nil, "HTTP/2.0"}, {both.URL, "http1", nil, "HTTP/1.1"}, {both.URL, "http2", nil, "HTTP/2.0"},
		{both.URL, "", []message.Field{ntlm}, "HTTP/1.1"},
		{one.URL, "", nil, "HTTP/1.1"}, {one.URL, "http1", nil, "HTTP/1.1"}, {one.URL, "http2", nil, "no application protocol: it does not speak what padlock offers, which is HTTP/2 alone"},
		{two.URL, "", nil, "HTTP/2.0"},
	} {
		g := groupOf(t, c.to, func(u *config.Upstream) { u.Protocol = c.protocol })
		for range 2 {
			if got := said(g, plainGet(c.fields...)); !strings.Contains(got, c.want) {
				t.Errorf("%s %q %v: %s", c.to, c.protocol, c.fields, got)
			}
		}
	}

	// The connection by which HTTP/1.1 was agreed on is used, and no other is tried for a while.
	before := connections.n.Load()
	g := groupOf(t, one.URL, nil)
	for range 5 {
		if got := said(g, plainGet()); got != "HTTP/1.1" {
			t.Error(got)
		}
	}
	if n := connections.n.Load() - before; n != 1 {
		t.Errorf("%d connections", n)
	}
	n, _ := g.current.Load().members[0].target.transport.(*negotiated)
	n.again.Store(time.Now().Add(-time.Second).UnixNano())
	var asking sync.WaitGroup
	for range 5 {
		asking.Go(func() {
			if got := said(g, plainGet()); got != "HTTP/1.1" {
				t.Error(got)
			}
		})
	}
	asking.Wait()
	if until := time.Until(time.Unix(0, n.again.Load())); until < askAgain/2 {
		t.Errorf("it is asked again in %s", until)
	}
}

// HTTP/2 with prior knowledge needs no scheme of its own, so a socket can have it too.
func TestTargetsWithoutTLSCanExpectHTTP2(t *testing.T) {
	path := t.TempDir() + "/app.sock"
	for _, at := range [][2]string{{"unix", path}, {"tcp", "127.0.0.1:0"}} {
		l, err := net.Listen(at[0], at[1])
		if err != nil {
			t.Fatal(err)
		}
		var both http.Protocols
		both.SetHTTP1(true)
		both.SetUnencryptedHTTP2(true)
		s := &httptest.Server{Listener: l, Config: &http.Server{Protocols: &both, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Proto)
		})}}
		s.Start()
		defer s.Close()
		to := "http://" + l.Addr().String()
		if at[0] == "unix" {
			to = "unix:" + path
		}
		for protocol, want := range map[string]string{"": "HTTP/1.1", "http2": "HTTP/2.0"} {
			g := groupOf(t, to, func(u *config.Upstream) { u.Protocol = protocol })
			if got := said(g, plainGet()); got != want {
				t.Errorf("%s %q: %s", to, protocol, got)
			}
		}
	}
}

// A target that refuses content over HTTP/2, and speaks HTTP/1.1 from then on, does not get the request without it.
func TestContentIsNotLostWhereATargetChangesItsProtocol(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	certificates := s.TLS.Certificates
	s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 10)
	go func() {
		for nth := 1; ; nth++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			protocol := "http/1.1"
			if nth == 1 {
				protocol = "h2"
			}
			secured := tls.Server(conn, &tls.Config{Certificates: certificates, NextProtos: []string{protocol}})
			go func() {
				defer secured.Close()
				reader := bufio.NewReader(secured)
				if protocol == "h2" {
					_, _ = io.CopyN(io.Discard, reader, int64(len(http2.ClientPreface)))
					framer := http2.NewFramer(secured, reader)
					_ = framer.WriteSettings()
					for f, err := framer.ReadFrame(); err == nil; f, err = framer.ReadFrame() {
						if f.Header().Type == http2.FrameHeaders {
							_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
						}
					}
					return
				}
				if r, err := http.ReadRequest(reader); err == nil {
					got <- r.Method
				}
			}()
		}
	}()

	g := groupOf(t, "https://"+l.Addr().String(), nil)
	r := plainGet()
	r.Method, r.Body, r.ContentLength = "POST", &atHand{strings.NewReader("content")}, 7
	if answer := said(g, r); !strings.Contains(answer, "HTTP/1.1 was agreed on") {
		t.Error(answer)
	}
	select {
	case <-got:
		t.Error("the target got the request without its content")
	default:
	}
}

// atHand is content that needs no waiting.
type atHand struct{ *strings.Reader }

func (a *atHand) Buffered() int            { return a.Len() }
func (a *atHand) Received() int64          { return a.Size() - int64(a.Len()) }
func (a *atHand) Trailers() message.Fields { return nil }
func (a *atHand) Close() error             { return nil }
