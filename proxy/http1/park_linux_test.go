package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"padlock/proxy/park"
)

// Idle connections give all back but themselves, serve again when they are spoken to, and end with their time or with the server.
func TestIdleConnectionsAreParked(t *testing.T) {
	lot, err := park.New()
	if err != nil {
		t.Fatal(err)
	}
	defer lot.Close()
	s := NewServer(ServerOptions{
		Handler: handler(echo), Header: 5 * time.Second, Idle: 4 * time.Second, BodyIdle: 5 * time.Second, Head: 8 << 10, Log: slog.New(slog.DiscardHandler), Park: lot,
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.ServeConn(&plain{TCPConn: c.(*net.TCPConn)})
		}
	}()
	connect := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, bufio.NewReader(c)
	}
	parked := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); lot.Parked() != n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d are parked, not %d", lot.Parked(), n)
			}
		}
	}
	c, r := connect()
	for range 2 {
		_, _ = io.WriteString(c, "GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n")
		for _, want := range []string{"GET /one ", "GET /two "} {
			if _, body, _ := answer(t, r, "GET"); body != want {
				t.Fatalf("got %q", body)
			}
		}
		parked(1)
	}
	began := time.Now()
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) || time.Since(began) > 8*time.Second {
		t.Errorf("an idle connection ended with %v after %s", err, time.Since(began))
	}
	gone, r := connect()
	_, _ = io.WriteString(gone, "GET /one HTTP/1.1\r\nHost: a\r\n\r\n")
	answer(t, r, "GET")
	parked(1)
	gone.Close()
	parked(0)
	last, r := connect()
	_, _ = io.WriteString(last, "GET /one HTTP/1.1\r\nHost: a\r\n\r\n")
	answer(t, r, "GET")
	parked(1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error("Shutdown:", err)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Error("a parked connection outlives Shutdown:", err)
	}
}
