package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func pair(t *testing.T) (*Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	s, ok := New(near)
	if !ok {
		t.Fatal("a TCP connection has a descriptor")
	}
	return s, far
}

// A socket is a net.Conn: bytes arrive whole even when they do not fit at once, the end is io.EOF, deadlines and Close end what waits.
func TestASocketIsAConnection(t *testing.T) {
	near, far := pair(t)
	sent := bytes.Repeat([]byte("padlock "), 1<<20)
	go func() {
		if n, err := near.Write(sent); n != len(sent) || err != nil {
			t.Errorf("%d %v", n, err)
		}
		_ = near.CloseWrite()
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	_ = near.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = near.SetReadDeadline(time.Time{})
	_, _ = far.Write([]byte("x"))
	if n, err := near.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Error(n, err)
	}
	closed := make(chan error)
	go func() { _, err := near.Read(make([]byte, 1)); closed <- err }()
	near.Close()
	if err := <-closed; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestTheEndIsEOF(t *testing.T) {
	near, far := pair(t)
	far.Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// What is corked goes out at Uncork, in order, and earlier where it is too much.
func TestCorkedWritesGoOutTogether(t *testing.T) {
	near, far := pair(t)
	near.Cork()
	_, _ = near.Write([]byte("a"))
	_, _ = near.Write([]byte("b"))
	_ = far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := far.Read(make([]byte, 9)); err == nil {
		t.Errorf("%d bytes went out", n)
	}
	_ = far.SetReadDeadline(time.Now().Add(5 * time.Second))
	if err := near.Uncork(); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 9)
	if n, _ := far.Read(p); string(p[:n]) != "ab" {
		t.Errorf("%q", p[:n])
	}
	near.Cork()
	large := bytes.Repeat([]byte("x"), 2*corkSize)
	_, _ = near.Write([]byte("first"))
	_, _ = near.Write(large)
	_, _ = near.Write([]byte("last"))
	_ = near.Uncork()
	got := make([]byte, len(large)+9)
	if _, err := io.ReadFull(far, got); err != nil || !bytes.HasPrefix(got, []byte("firstx")) || !bytes.HasSuffix(got, []byte("xlast")) {
		t.Errorf("%v %.8q", err, got)
	}
}
