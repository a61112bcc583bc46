package handshake

import (
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of what is captured of one handshake; beyond them the record is marked truncated.
const (
	maxCapture  = 128 << 10
	maxSegments = 256
)

// Conn records the handshake that passes through it, below TLS. It captures and parses nothing; a worker dissects later.
// Once the record is frozen, at the first application byte or at Close, it costs a few nanoseconds a call.
type Conn struct {
	net.Conn
	recorder *Recorder
	id       uint64
	trace    atomic.Pointer[trace] // nil once frozen
}

// FromHello finds the recorder that crypto/tls reads the hello from.
func FromHello(hello *tls.ClientHelloInfo) (*Conn, bool) {
	c, ok := hello.Conn.(*Conn)
	return c, ok
}

// ID counts connections from 1 in this process.
func (c *Conn) ID() uint64 { return c.id }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	t := c.trace.Load()
	n, err := c.Conn.Read(p)
	if t != nil {
		t.read(p[:n], err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	t := c.trace.Load()
	if t == nil {
		return c.Conn.Write(p)
	}
	// Stamped before the system call: afterwards the client may have answered already.
	at := time.Since(t.start)
	n, err := c.Conn.Write(p)
	t.wrote(at, p[:n])
	return n, err
}

// CloseWrite ends our side and leaves the other open, where the connection below can.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements net.Conn and freezes the record.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.freeze(false)
	return err
}

// FirstByte says that the first application byte was read; the record is complete. Further calls do nothing.
func (c *Conn) FirstByte() {
	if c.trace.Load() != nil {
		c.freeze(true)
	}
}

func (c *Conn) freeze(firstByte bool) {
	t := c.trace.Swap(nil)
	if t == nil {
		return
	}
	t.mu.Lock()
	t.frozen = true
	t.firstByte = firstByte
	t.end = time.Since(t.start)
	t.mu.Unlock()
	c.recorder.hand(t)
}

// KeyLogWriter receives crypto/tls's key log. Only the two handshake traffic secrets are kept:
// they open the handshake and cannot derive the keys of application data (RFC 8446 section 7.1).
func (c *Conn) KeyLogWriter() *KeyLog { return &KeyLog{c.trace.Load()} }

// KeyLog is an io.Writer for tls.Config.KeyLogWriter.
type KeyLog struct{ trace *trace }

// Write runs under a mutex that all of crypto/tls shares, so it only decodes into a fixed slot.
func (k *KeyLog) Write(line []byte) (int, error) {
	if k.trace != nil {
		k.trace.keyLog(line)
	}
	return len(line), nil
}

// Certificate notes what GetCertificate chose; nil means that the name was refused.
func (c *Conn) Certificate(certificate *tls.Certificate) {
	c.note(func(t *trace) {
		t.certificate = certificate
		t.refused = certificate == nil
	})
}

// Done notes the end of the handshake: HandshakeContext's error and the state after it.
func (c *Conn) Done(state tls.ConnectionState, err error) {
	c.note(func(t *trace) {
		t.state, t.err, t.done = state, err, time.Since(t.start)
	})
}

// ReadError notes an error that came instead of the first application byte.
func (c *Conn) ReadError(err error) {
	c.note(func(t *trace) { t.readErr = err })
}

// NotTLS notes what the first bytes were instead: http, h2c, ssh, proxy, sslv2 or unknown.
func (c *Conn) NotTLS(kind string) {
	c.note(func(t *trace) { t.kind = kind })
}

func (c *Conn) note(f func(*trace)) {
	if t := c.trace.Load(); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.frozen {
			f(t)
		}
	}
}

// trace is the raw material of one record. Reads, writes and Close may come from different goroutines.
type trace struct {
	id            uint64
	start         time.Time
	remote, local string

	mu        sync.Mutex
	frozen    bool
	segments  []segment
	arena     *arena
	truncated bool
	secrets   secrets

	certificate *tls.Certificate
	refused     bool
	state       tls.ConnectionState
	err         error
	readErr     error
	kind        string
	done, end   time.Duration
	firstByte   bool
	eof         bool // the client ended its side
	netErr      error
}

// segment is one system call's worth of bytes.
type segment struct {
	at     time.Duration
	from   Side
	offset int // in that side's stream
	length int
}

// arena holds the bytes of both directions. Arenas are reused, wiped.
type arena struct{ in, out []byte }

// secrets are the handshake traffic secrets; up to 48 bytes each (SHA-384).
type secrets struct {
	client, server             [48]byte
	clientLength, serverLength int
}

func (t *trace) read(p []byte, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return
	}
	if len(p) > 0 {
		t.append(time.Since(t.start), Client, &t.arena.in, p)
	}
	if err != nil {
		t.eof = err.Error() == "EOF"
		t.netErr = err
	}
}

func (t *trace) wrote(at time.Duration, p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.frozen {
		t.append(at, Server, &t.arena.out, p)
	}
}

func (t *trace) append(at time.Duration, from Side, stream *[]byte, p []byte) {
	if room := maxCapture - len(t.arena.in) - len(t.arena.out); len(p) > room || len(t.segments) == maxSegments {
		t.truncated = true
		return
	}
	t.segments = append(t.segments, segment{at, from, len(*stream), len(p)})
	*stream = append(*stream, p...)
}

func (t *trace) keyLog(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return
	}
	s := &t.secrets
	if n, ok := secretOf(line, "CLIENT_HANDSHAKE_TRAFFIC_SECRET ", s.client[:]); ok {
		s.clientLength = n
	} else if n, ok := secretOf(line, "SERVER_HANDSHAKE_TRAFFIC_SECRET ", s.server[:]); ok {
		s.serverLength = n
	}
}

// secretOf decodes the third word of a key-log line with the given label (the SSLKEYLOGFILE format).
func secretOf(line []byte, label string, slot []byte) (int, bool) {
	const random = 64 + 1
	if len(line) < len(label)+random || string(line[:len(label)]) != label {
		return 0, false
	}
	digits := line[len(label)+random:]
	if n := len(digits); n > 0 && digits[n-1] == '\n' {
		digits = digits[:n-1]
	}
	if len(digits) > 2*len(slot) {
		return 0, false
	}
	n, err := hex.Decode(slot, digits)
	return n, err == nil
}

// release wipes what must not outlive the record. crypto/tls keeps copies of its own, beyond our reach.
func (t *trace) release() {
	t.secrets = secrets{}
	clear(t.arena.in)
	clear(t.arena.out)
	t.arena.in, t.arena.out = t.arena.in[:0], t.arena.out[:0]
	if cap(t.arena.in)+cap(t.arena.out) <= 32<<10 {
		arenas.Put(t.arena)
	}
	t.arena = nil
}

var arenas = sync.Pool{New: func() any { return &arena{in: make([]byte, 0, 2<<10), out: make([]byte, 0, 4<<10)} }}
