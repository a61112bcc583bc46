package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"padlock/handshake"
)

// applicationTimeout is how long a connection may live once it carries data; a browser keeps the page's for longer.
const applicationTimeout = 60 * time.Second

// application answers what the client asks.
func (s *session) application(conn appConn, protocol string) {
	app := conn
	if _, wrapped := conn.(*firstByte); !wrapped {
		app = &firstByte{appConn: conn, session: s}
	}
	if s.endpoint != page {
		_ = app.SetDeadline(time.Now().Add(applicationTimeout))
	} else {
		_ = app.SetDeadline(time.Time{})
	}

	if s.endpoint.answer != nil {
		s.byHand(app)
		return
	}
	if protocol == "h2" {
		s.serveHTTP2(app)
		return
	}
	s.serveHTTP1(app)
}

func (s *session) quiet() *log.Logger { return slog.NewLogLogger(s.lab.log.Handler(), slog.LevelDebug) }

// byHand reads one request of HTTP/1.1, and has the endpoint answer it.
func (s *session) byHand(app appConn) {
	request, err := http.ReadRequest(bufio.NewReader(app))
	if err != nil {
		s.fail(err)
		return
	}
	s.agent(request)
	if err := s.endpoint.answer(s, app); err != nil {
		s.fail(err)
		return
	}
	s.note(func(v *Visit) { v.Served = true })
}

// agent notes a request. One that comes on the connection of another, which is the quickest way, is a visit of its own.
func (s *session) agent(r *http.Request) {
	if s.requests.Add(1) > 1 && s.endpoint != page {
		s.lab.visits.again(s.visit, s.lab.authority.Asked(s.endpoint.Hostname()))
	}
	s.note(func(v *Visit) { v.Agent = agentOf(r) })
}

// agentOf is a client by its own words, as far as they are kept.
func agentOf(r *http.Request) string {
	agent := handshake.Escape(r.UserAgent())
	return agent[:min(len(agent), 200)]
}

// goAwayDelay is how long a connection of HTTP/2 stays open once its requests are answered. The clients of Java 17 drop
// an answer whose end they have not handed on when a GOAWAY comes (JDK-8335181).
const goAwayDelay = 2 * time.Second

// serveHTTP2 serves this one connection, and ends it with a GOAWAY some time after its answers, unless it is the page's.
func (s *session) serveHTTP2(app net.Conn) {
	base := &http.Server{ErrorLog: s.quiet()}
	//lint:ignore SA1019 net/http serves listeners alone, and this is one connection
	server := &http2.Server{MaxConcurrentStreams: 32}
	//lint:ignore SA1019 it has Shutdown send a GOAWAY
	if err := http2.ConfigureServer(base, server); err != nil {
		s.fail(err)
		return
	}

	goAway := time.AfterFunc(math.MaxInt64, func() { _ = base.Shutdown(s.ctx) })
	defer goAway.Stop()
	base.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateIdle && s.requests.Load() > 0 && s.endpoint != page {
			goAway.Reset(goAwayDelay)
		}
	}
	//lint:ignore SA1019 net/http serves listeners alone, and this is one connection
	server.ServeConn(app, &http2.ServeConnOpts{Context: s.ctx, Handler: s, BaseConfig: base})
}

// serveHTTP1 has net/http serve this one connection.
func (s *session) serveHTTP1(app net.Conn) {
	closed := make(chan struct{})
	var once sync.Once
	server := &http.Server{
		Handler: s, ErrorLog: s.quiet(), ReadHeaderTimeout: applicationTimeout,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				once.Do(func() { close(closed) })
			}
		},
	}
	_ = server.Serve(&single{conn: app})
	select {
	case <-closed:
	case <-s.ctx.Done():
	}
}

// single is a listener of one connection.
type single struct {
	conn net.Conn
	once sync.Once
}

func (l *single) Accept() (conn net.Conn, err error) {
	err = net.ErrClosed
	l.once.Do(func() { conn, err = l.conn, nil })
	return conn, err
}

func (l *single) Close() error   { return nil }
func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }

// ServeHTTP answers a request at an endpoint.
func (s *session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.agent(r)
	if s.endpoint == page {
		s.lab.servePage(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	// A browser uses a connection of HTTP/2 for every name in its certificate (RFC 9113 section 9.1.1), and asks again on
	// another one after this (section 9.1.2).
	if host, _, err := net.SplitHostPort(r.Host); err == nil && s.hello.ServerName != "" && host != s.hello.ServerName {
		http.Error(w, "this is "+s.hello.ServerName, http.StatusMisdirectedRequest)
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	// The page of the lab asks from another origin, and may read all of it.
	h.Set("Access-Control-Allow-Origin", "*")
	// The next test of a browser shows a handshake, too.
	if r.ProtoMajor == 1 {
		h.Set("Connection", "close")
	}
	body := s.body()
	h.Set("Content-Length", fmt.Sprint(len(body)))
	if _, err := w.Write([]byte(body)); err == nil {
		s.note(func(v *Visit) { v.Served = true })
	}
}

// body is what every endpoint answers.
func (s *session) body() string {
	e := s.endpoint
	return fmt.Sprintf("padlock lab: %s\n%s\nA correct client %s this.\nend of padlock lab: %s\n", e.Name, e.Wrong, verb(e.Expect), e.Name)
}

func verb(e Expectation) string {
	if e == May {
		return "may accept or refuse"
	}
	return string(e)
}

var errCut = errors.New("the lab's endpoint cuts the connection here")
