// Package http2 is the HTTP/2 front (RFC 9113): golang.org/x/net/http2 adapted to message.
package http2

//lint:file-ignore SA1019 net/http's copy of HTTP/2 is as old as the toolchain that builds padlock; x/net's is the one that go.mod pins.

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/message"
	"padlock/proxy/nethttp"
)

// ServerOptions bound what a client may do.
type ServerOptions struct {
	Handler message.Handler
	Idle    time.Duration // without an open stream
	Stall   time.Duration // no progress in a body
	Head    int           // bytes of a request's fields, decoded
	Log     *slog.Logger
}

// Server speaks HTTP/2 on connections that have agreed on h2. It is safe for use from many goroutines.
type Server struct {
	base    *http.Server
	h2      *http2.Server
	handler http.Handler

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	open  sync.WaitGroup
	ended bool
}

const maxStreams = 100

// NewServer makes a server.
func NewServer(o ServerOptions) (*Server, error) {
	s := &Server{
		base: &http.Server{
			MaxHeaderBytes: o.Head,
			ErrorLog:       slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		},
		h2:      &http2.Server{MaxConcurrentStreams: maxStreams, IdleTimeout: o.Idle, WriteByteTimeout: o.Stall},
		handler: nethttp.Handler(o.Handler, o.Stall),
		conns:   map[net.Conn]struct{}{},
	}
	// Ties the GOAWAY of every connection to the base server's Shutdown.
	return s, http2.ConfigureServer(s.base, s.h2)
}

// ServeConn serves c until it ends, and closes it.
func (s *Server) ServeConn(c net.Conn, facts *message.Conn) {
	defer c.Close()
	if !s.track(c) {
		return
	}
	defer s.untrack(c)
	s.h2.ServeConn(c, &http2.ServeConnOpts{
		Context:    nethttp.WithConn(context.Background(), facts),
		BaseConfig: s.base,
		Handler:    s.handler,
	})
}

func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.conns[c] = struct{}{}
	s.open.Add(1)
	return true
}

func (s *Server) untrack(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.open.Done()
}

// Shutdown sends GOAWAY and waits for open streams; when ctx ends first, it closes all connections.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	_ = s.base.Shutdown(ctx)
	drained := make(chan struct{})
	go func() { s.open.Wait(); close(drained) }()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	<-drained
	return ctx.Err()
}
