// Package http3 is the front for HTTP/3 (RFC 9114): quic-go's server adapted to message.
//
//	server := http3.NewServer(http3.ServerOptions{Handler: h})
//	server.ServeConn(conn, facts)   // until the client or Shutdown ends it
package http3

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/proxy/message"
	"padlock/traffic"
)

// ServerOptions bound what a client may do.
type ServerOptions struct {
	Handler message.Handler
	Idle    time.Duration // between requests
	Header  time.Duration // for what tells whether a request has content
	Stall   time.Duration // no progress in a body
	Rate    int           // bytes a second that a body must bring on average, after the first stall
	Head    int           // bytes of a head
	Fields  int           // in a head; 0: 200
	Streams int           // that are served at once, of one connection; 0: 100
	Resets  int           // of streams in 10 s, the client's and those that it makes us send; 0: 1,000

	Cut func(why traffic.Reason, client netip.Addr) // is told of clients that are cut; may be nil
}

// Where nothing else is said.
const (
	maxFields  = 200
	maxStreams = 100
	maxResets  = 1000
)

// Server speaks HTTP/3 on connections of QUIC. It is safe for use from many goroutines.
type Server struct {
	o  ServerOptions
	h3 http3.Server
}

type factsKey struct{}

// NewServer returns a server; Shutdown ends it.
func NewServer(o ServerOptions) *Server {
	o.Fields, o.Streams, o.Resets = cmp.Or(o.Fields, maxFields), cmp.Or(o.Streams, maxStreams), cmp.Or(o.Resets, maxResets)
	s := &Server{o: o}
	s.h3 = http3.Server{
		Handler: s, MaxHeaderBytes: o.Head, ConnContext: s.begin, Logger: slog.New(slog.DiscardHandler),
	}
	return s
}

// Protocol is what TLS negotiates for HTTP/3.
const Protocol = http3.NextProtoH3

// With gives a connection's context what its requests need to know of the connection. It is read when a request comes, not before.
func With(ctx context.Context, facts func() *message.Conn) context.Context {
	return context.WithValue(ctx, factsKey{}, facts)
}

// ServeConn answers requests until the client or Shutdown ends the connection. The connection's context comes from With.
func (s *Server) ServeConn(conn *quic.Conn) { _ = s.h3.ServeQUICConn(conn) }

// Shutdown tells clients to open no more streams, and finishes those that are open; when ctx ends first, it closes all.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.h3.Shutdown(ctx)
	return errors.Join(err, s.h3.Close())
}

// ServeHTTP implements http.Handler, for quic-go.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	facts, ok := hr.Context().Value(factsKey{}).(func() *message.Conn)
	v, known := hr.Context().Value(visitKey{}).(*visit)
	if !ok || !known {
		panic(http.ErrAbortHandler)
	}
	conn := facts()
	if !v.enter(hr, conn.Addr) {
		panic(http.ErrAbortHandler)
	}
	provoked := false
	defer func() { <-v.places; v.leave(hr, conn.Addr, provoked) }()
	x := &exchange{server: s, control: http.NewResponseController(w)}
	x.body.init(s, hr, x.control)
	x.writer.x, x.writer.w = x, w
	r := &x.request
	r.Conn = conn
	switch ok := s.request(r, hr); {
	case !ok:
		provoked = true
		s.tell(traffic.Malformed, conn.Addr)
		panic(http.ErrAbortHandler) // RFC 9114 section 4.1.2
	case len(r.Fields) > s.o.Fields:
		s.tell(traffic.HeadSize, conn.Addr)
		w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	switch present, err := x.body.present(hr); {
	case err != nil:
		panic(http.ErrAbortHandler)
	case present && r.Upgrade == "":
		r.Body = &x.body
		if r.Expect {
			x.body.ask = x.writer.proceed
		}
	default:
		r.ContentLength = 0
	}
	x.release = context.AfterFunc(hr.Context(), x.ctx.Cancel)
	s.o.Handler.Serve(&x.ctx, r, &x.writer)
	x.release()
	if !x.writer.end() {
		panic(http.ErrAbortHandler)
	}
}

// tell says why a client is cut.
func (s *Server) tell(why traffic.Reason, client netip.Addr) {
	if s.o.Cut != nil {
		s.o.Cut(why, client)
	}
}

// exchange is one request with its response.
type exchange struct {
	server  *Server
	control *http.ResponseController
	ctx     message.Context
	request message.Request
	body    body
	writer  writer
	release func() bool // the end of the stream is the request's no longer
}

// request makes a message of what quic-go has parsed, and refuses what a backend could read otherwise: HTTP/1.1 is stricter.
func (s *Server) request(r *message.Request, hr *http.Request) bool {
	r.Method, r.Scheme, r.Host, r.Proto, r.ContentLength = hr.Method, "https", hr.Host, "HTTP/3.0", hr.ContentLength
	r.Target = hr.RequestURI
	if _, ok := hr.Header["Content-Length"]; !ok {
		r.ContentLength = -1
	}
	if !message.Token(r.Method) || !message.ValidHost(r.Host) || r.Host == "" {
		return false
	}
	for name, values := range hr.Header {
		if !message.Token(name) {
			return false
		}
		switch name {
		case "Content-Length", "Host":
			continue
		case "Expect":
			if len(values) != 1 || !strings.EqualFold(values[0], "100-continue") {
				return false
			}
			r.Expect = true
			continue
		case "Cookie":
			values = []string{strings.Join(values, "; ")} // RFC 9114 section 4.2.1
		}
		for _, value := range values {
			if !message.FieldValue(value) {
				return false
			}
			r.Fields.Add(name, value)
		}
	}
	for name := range hr.Trailer { // where quic-go puts what Trailer has announced
		if message.Token(name) {
			r.Declared = append(r.Declared, name)
		}
	}
	if host := hr.Header.Get("Host"); host != "" && !message.Is(host, r.Host) {
		return false
	}
	if hr.Method == http.MethodConnect {
		return s.connect(r, hr)
	}
	return message.ValidTarget(r.Target) && (r.Target[0] == '/' || r.Target == "*" && r.Method == "OPTIONS")
}

// connect makes an extended CONNECT look as the upgrade that it stands for (RFC 9220).
func (s *Server) connect(r *message.Request, hr *http.Request) bool {
	if hr.Proto == "" || strings.HasPrefix(hr.Proto, "HTTP/") {
		r.Target = r.Host
		return true // refused further up
	}
	if hr.URL == nil || !message.Token(hr.Proto) {
		return false
	}
	r.Method, r.Upgrade, r.ContentLength, r.Target = "GET", strings.ToLower(hr.Proto), 0, hr.URL.RequestURI()
	r.Fields.Set("Sec-WebSocket-Key", message.WebSocketKey())
	return message.ValidTarget(r.Target) && r.Target[0] == '/'
}
