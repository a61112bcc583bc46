package proxy_test

import (
	"bytes"
	"crypto/tls"
	"flag"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"padlock/proxy/message"
)

var sockets = flag.Int("sockets", 2000, "idle WebSockets of TestAnIdleWebSocketHoldsNoBuffer")

// An idle WebSocket holds no buffer. What is measured is all that this process has for it: padlock's two connections with their
// goroutines, a client with its TLS, and a target with its goroutine.
func TestAnIdleWebSocketHoldsNoBuffer(t *testing.T) {
	const most = 60 << 10 // with the race detector; without it, it is less
	e := start(t, "http://"+serveTCP(t, echoSocket), nil)
	var clients []*tls.Conn
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	open := func(n int) {
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for range n / 16 {
					c := e.socket(t)
					mu.Lock()
					clients = append(clients, c)
					mu.Unlock()
				}
			})
		}
		all.Wait()
	}
	used := func() uint64 {
		var m runtime.MemStats
		debug.FreeOSMemory()
		runtime.ReadMemStats(&m) // of the heap what is alive: how well that fills its pages differs by some KiB from run to run
		return m.HeapAlloc + m.StackInuse
	}
	open(64)
	before := used()
	open(*sockets)
	each := uint64(0)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) { // what was active becomes idle
		each = (used() - before) / uint64(*sockets)
		if each <= most || time.Now().After(deadline) {
			break
		}
	}
	t.Logf("%d bytes for each of %d", each, *sockets)
	if each > most {
		t.Errorf("an idle WebSocket holds %d bytes", each)
	}
}

// echoSocket opens a WebSocket and says back what it hears, without a buffer to speak of.
func echoSocket(c *net.TCPConn) {
	_ = c.SetDeadline(time.Time{})
	buffer := make([]byte, 512)
	n := 0
	for !bytes.HasSuffix(buffer[:n], []byte("\r\n\r\n")) {
		m, err := c.Read(buffer[n:])
		if n += m; err != nil || n == len(buffer) {
			return
		}
	}
	_, key, _ := bytes.Cut(buffer[:n], []byte("Sec-WebSocket-Key: "))
	key, _, _ = bytes.Cut(key, []byte("\r"))
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+
		message.WebSocketAccept(string(key))+"\r\n\r\n")
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		if _, err := c.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// socket opens a WebSocket that has said something.
func (e *edge) socket(t *testing.T) *tls.Conn {
	c := e.one(t, upgradeHead)
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, one...) {
		if _, err := c.Read(one); err != nil {
			t.Error(err)
			return c
		}
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		t.Errorf("%q", head)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	return c
}
