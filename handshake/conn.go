package handshake

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"padlock/handshake/wire"
	"padlock/internal/pool"
)

// Limits of what is captured of one handshake; beyond them the record is marked truncated.
const (
	maxCapture  = 128 << 10
	maxSegments = 256
)

// Conn records the handshake that passes through it, on either side of TLS, below it. It captures and parses nothing; a
// worker dissects later. Once the record is frozen, at the first application byte or at Close, it costs a few
// nanoseconds a call.
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
	// Loaded before the read: a record that is frozen meanwhile must not get these bytes.
	t := c.trace.Load()
	n, err := c.Conn.Read(p)
	if t != nil {
		t.read(c.id, p[:n], err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	t := c.trace.Load()
	if t == nil {
		return c.Conn.Write(p)
	}
	// Stamped before the system call: afterwards the peer may have answered already.
	at := time.Now()
	n, err := c.Conn.Write(p)
	t.wrote(c.id, at, p[:n], err)
	return n, err
}

// NetConn is the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends our side and leaves the other open, where the connection below can.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements net.Conn. It freezes the record, unless the handshake has not been told to be Done: then crypto/tls
// closes because its context ended, and Done, which knows why, follows.
func (c *Conn) Close() error {
	ripe := true
	if c.trace.Load() != nil {
		// The kernel cannot be asked for the round-trip time once the connection is closed.
		rtt := roundTrip(c.Conn)
		c.note(func(t *trace) {
			ripe = t.done != 0 || t.closed
			t.rtt, t.closed = rtt, true
		})
	}

	err := c.Conn.Close()
	if ripe {
		c.freeze(false)
	}
	return err
}

// FirstByte says that the first application byte was read; the record is complete. Further calls do nothing.
func (c *Conn) FirstByte() {
	if c.trace.Load() != nil {
		c.freeze(true)
	}
}

func (c *Conn) freeze(firstByte bool) {
	// Several ends may come at once. Only one of them hands the record over.
	t := c.trace.Swap(nil)
	if t == nil {
		return
	}
	t.mu.Lock()
	t.frozen = true
	t.firstByte = firstByte
	t.end = time.Since(t.start)
	if t.registered {
		// The shared key log must not hold a random that nobody answers for.
		c.recorder.keys.remove(t.random)
	}
	t.mu.Unlock()

	c.recorder.hand(t)
}

// Hello notes that crypto/tls has read the client's hello, and returns the config for this connection: the same one,
// which must have the Recorder as its KeyLogWriter, or, where a shared key log cannot tell connections apart, a clone
// with its own.
func (c *Conn) Hello(config *tls.Config) *tls.Config {
	own := false
	c.note(func(t *trace) {
		t.marks.hello = time.Since(t.start)
		// Without the client's random, the shared key log cannot know whose secrets it receives.
		t.policy = config
		random, ok := t.clientRandom()

		// Under ECH the key log names the inner hello's random, which is not the one on the wire.
		ok = ok && len(config.EncryptedClientHelloKeys) == 0 && c.recorder.keys.add(random, t, c.id)
		t.random, t.registered, own = random, ok, !ok
	})
	if !own {
		return config
	}
	// The clone costs some microseconds, which only these few connections pay.
	clone := config.Clone()
	clone.KeyLogWriter = (*ownKeyLog)(c)
	return clone
}

// JA4 parses the hello for the client's fingerprint, for whoever needs it before the record is complete; "" if there is
// none.
func (c *Conn) JA4() (fingerprint string) {
	c.note(func(t *trace) {
		records, _ := wire.Records(nil, t.in)
		var messages wire.Assembler
		for _, r := range records {
			// Whatever else comes first, there is no hello to take a fingerprint of.
			if r.Type != wire.TypeHandshake {
				return
			}

			found, _ := messages.Add(r.Fragment, r.Offset, r.End())
			for _, m := range found {
				if h, err := wire.ParseClientHello(m.Body); err == nil && m.Type == wire.ClientHelloType {
					fingerprint = h.JA4('t')
				}
				return
			}
		}
	})
	return fingerprint
}

// KeyLogWriter is for a client's tls.Config, which is used for one connection only.
func (c *Conn) KeyLogWriter() io.Writer { return (*ownKeyLog)(c) }

// ownKeyLog receives the key log of one connection.
type ownKeyLog Conn

func (k *ownKeyLog) Write(line []byte) (int, error) {
	if t := k.trace.Load(); t != nil {
		t.keyLog(k.id, line)
	}
	return len(line), nil
}

// Certificate notes what GetCertificate chose; nil means that the name was refused.
func (c *Conn) Certificate(certificate *tls.Certificate) {
	c.note(func(t *trace) {
		t.certificate = certificate
		t.marks.certificate = time.Since(t.start)
	})
}

// Done notes the end of the handshake: HandshakeContext's error and the state after it. It is called once, whatever the
// end was.
func (c *Conn) Done(state tls.ConnectionState, err error) {
	closed := false
	c.note(func(t *trace) {
		t.state, t.err, t.done = state, err, time.Since(t.start)
		closed = t.closed
	})
	// Close has come already, and left the record open for this call.
	if closed {
		c.freeze(false)
	}
}

// ReadError notes an error that came instead of the first application byte.
func (c *Conn) ReadError(err error) {
	c.note(func(t *trace) { t.readErr = err })
}

// NotTLS notes what the first bytes were instead: what Recognise says, no_proxy or tls_on_plain. Of kinds that bytes
// can tell, those that were captured have the last word, as there may be more of them.
func (c *Conn) NotTLS(kind string) {
	c.note(func(t *trace) { t.kind = kind })
}

// Refused notes that it is our side that closes before the first application byte, why, with what belongs to this
// connection alone in the detail, and what a person can do about it. The first call counts.
func (c *Conn) Refused(why, detail, remedy string) {
	c.note(func(t *trace) {
		if t.refused == "" {
			t.refused, t.refusedDetail, t.refusedRemedy = why, detail, remedy
		}
	})
}

func (c *Conn) note(f func(*trace)) {
	if t := c.trace.Load(); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		// A call that loaded the record before it was frozen may come after it.
		if t.id == c.id && !t.frozen {
			f(t)
		}
	}
}

// trace is the raw material of one record. Reads, writes and Close may come from different goroutines, and hold it for
// longer than the record is made; only its buffers are used again.
type trace struct {
	mu sync.Mutex
	traceData
	segments []segment
	in, out  []byte // what the client and what the server sent
	room     *captureRoom
}

// captureRoom is what most handshakes fit into.
type captureRoom [usualIn + usualOut]byte

const usualIn, usualOut = 2 << 10, 4 << 10

var captureRooms = pool.Of(func(r *captureRoom) []byte { return r[:] })

func newTrace(data traceData) *trace {
	room := captureRooms.Get()
	return &trace{
		traceData: data, segments: make([]segment, 0, 16),
		in: room[:0:usualIn], out: room[usualIn:usualIn], room: room,
	}
}

// traceData is what is known beside the bytes.
type traceData struct {
	id         uint64
	side       Side // whose side padlock is on
	conn       net.Conn
	start      time.Time
	frozen     bool
	closed     bool
	count      int // of segments
	truncated  bool
	random     [32]byte
	registered bool // with the key log, under random
	secrets    secrets
	marks      marks

	policy      *tls.Config
	certificate *tls.Certificate
	state       tls.ConnectionState
	err         error
	readErr     error
	netErr      error // of the connection below
	kind        string
	httpsPort   string // where HTTPS is, for who looks for it on the port of plain HTTP
	rtt         time.Duration
	done, end   time.Duration
	firstByte   bool

	refused, refusedDetail, refusedRemedy string // why our side closes, if it is known to
}

// segment is one system call's worth of bytes.
type segment struct {
	at             time.Duration
	offset, length int32 // in its side's stream
	fromServer     bool
}

// marks are moments inside crypto/tls, since the start; 0 where it never came by.
type marks struct {
	hello       time.Duration // the hello was read
	certificate time.Duration // GetCertificate returned
	keys        time.Duration // handshake traffic secrets were derived
	signed      time.Duration // our Finished was made; the signature is what takes the time before it
}

// secrets are the handshake traffic secrets; up to 48 bytes each (SHA-384).
type secrets struct {
	client, server             [48]byte
	clientLength, serverLength int
}

func (t *trace) read(id uint64, p []byte, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.id != id || t.frozen {
		return
	}
	if len(p) > 0 {
		t.append(time.Since(t.start), t.side == Client, p)
	}
	if err != nil {
		t.netErr = err
	}
}

func (t *trace) wrote(id uint64, at time.Time, p []byte, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.id != id || t.frozen {
		return
	}
	if len(p) > 0 {
		t.append(at.Sub(t.start), t.side == Server, p)
	}
	if err != nil && t.netErr == nil {
		t.netErr = err
	}
}

func (t *trace) append(at time.Duration, fromServer bool, p []byte) {
	// A segment is captured whole or not at all: half a record would look like a client that stopped in its middle.
	if room := maxCapture - len(t.in) - len(t.out); len(p) > room || t.count == maxSegments {
		t.truncated = true
		return
	}
	stream := &t.in
	if fromServer {
		stream = &t.out
	}
	t.segments = append(t.segments, segment{at, int32(len(*stream)), int32(len(p)), fromServer})
	t.count++
	*stream = append(*stream, p...)
}

// clientRandom is where RFC 8446 section 4.1.2 puts it, if the first record holds that much of the hello.
func (t *trace) clientRandom() (random [32]byte, ok bool) {
	const offset = 5 + 4 + 2 // record header, message header, version
	if len(t.in) < offset+32 || int(t.in[3])<<8|int(t.in[4]) < offset-5+32 {
		return random, false
	}
	copy(random[:], t.in[offset:])
	return random, true
}

func (t *trace) keyLog(id uint64, line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.id != id || t.frozen {
		return
	}

	s := &t.secrets
	// Only handshake secrets are kept. With application secrets, padlock could decrypt its clients' traffic.
	if n, ok := secretOf(line, "CLIENT_HANDSHAKE_TRAFFIC_SECRET ", s.client[:]); ok {
		s.clientLength = n
	} else if n, ok := secretOf(line, "SERVER_HANDSHAKE_TRAFFIC_SECRET ", s.server[:]); ok {
		s.serverLength = n
		t.marks.keys = time.Since(t.start)
	} else if t.marks.signed == 0 && hasLabel(line, "CLIENT_TRAFFIC_SECRET_0 ") {
		// Only the time is taken. The secret itself is never looked at.
		t.marks.signed = time.Since(t.start)
	}
}

// release wipes what must not outlive the record, and gives the buffers back. crypto/tls keeps copies of its own,
// beyond our reach.
func (t *trace) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Late calls of the connection find a frozen record without content.
	t.traceData = traceData{frozen: true}
	clear(t.in)
	clear(t.out)
	t.in, t.out, t.segments = nil, nil, nil
	if t.room != nil {
		clear(t.room[:])
		captureRooms.Put(t.room)
		t.room = nil
	}
}
