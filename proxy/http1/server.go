// Package http1 is HTTP/1.1 on the wire, both sides (RFC 9112), adapted from net/http to message.
package http1

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/nethttp"
)

// ServerOptions bound what a client may do.
type ServerOptions struct {
	Handler message.Handler
	Header  time.Duration // first byte of a head to its end
	Idle    time.Duration // between requests
	Stall   time.Duration // no progress in a body
	Head    int           // bytes of a head
	Log     *slog.Logger
}

// Server speaks HTTP/1.1 on connections that have finished their handshake. It is safe for use from many goroutines.
type Server struct {
	http  *http.Server
	conns *handoff
	done  chan struct{}
}

// Conn is a connection with what its requests need to know of it.
type Conn interface {
	net.Conn
	Facts() *message.Conn
}

// NewServer starts a server; Shutdown ends it.
func NewServer(o ServerOptions) *Server {
	s := &Server{conns: newHandoff(), done: make(chan struct{})}
	s.http = &http.Server{
		Handler:           nethttp.Handler(o.Handler, o.Stall),
		ReadHeaderTimeout: o.Header,
		IdleTimeout:       o.Idle,
		MaxHeaderBytes:    o.Head,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return nethttp.WithConn(ctx, c.(Conn).Facts())
		},
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(s.conns) // ends with ErrServerClosed, after Shutdown
	}()
	return s
}

// ServeConn takes over c, and closes it when the client or Shutdown says so. It returns at once.
func (s *Server) ServeConn(c Conn) { s.conns.give(c) }

// Shutdown finishes the requests that are open and closes idle connections; when ctx ends first, it closes all.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	<-s.done
	return err
}

// handoff is a net.Listener that returns connections accepted elsewhere.
type handoff struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handoff) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, errors.Join(net.ErrClosed, http.ErrServerClosed)
	}
}

func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handoff) Addr() net.Addr { return &net.TCPAddr{} }
