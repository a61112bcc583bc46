package http3

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"padlock/internal/fair"
	"padlock/proxy/message"
	"padlock/proxy/quota"
	"padlock/traffic"
)

// session is a connection of QUIC, but in tests.
type session interface {
	AcceptStream(context.Context) (*quic.Stream, error)
	AcceptUniStream(context.Context) (*quic.ReceiveStream, error)
	OpenUniStream() (*quic.SendStream, error)
	Context() context.Context
	CloseWithError(quic.ApplicationErrorCode, string) error
}

// connection is what one client does.
type connection struct {
	server  *Server
	conn    session
	facts   *message.Conn // at its beginning
	each    func() *message.Conn
	began   time.Time
	control *quic.SendStream
	asked   *fair.Share    // heads and trailers, while they are read, and until their request is answered
	busy    sync.WaitGroup // goroutines

	mu          sync.Mutex
	streams     map[quic.StreamID]*stream
	requests    int // streams whose head is there
	next        quic.StreamID
	resets      quota.Quota
	pointless   quota.Quota
	worthwhile  int // frames that excuse as many pointless ones
	prioritises bool
	draining    bool
	sealed      bool // no more requests are taken
	over        bool
	timer       *time.Timer // runs while there is no request
}

// greet opens our control stream (RFC 9114 section 3.2).
func (c *connection) greet() (err error) {
	if c.control, err = c.conn.OpenUniStream(); err == nil {
		_, err = c.control.Write(opening(c.server.o.Head))
	}
	// Every packet extends QUIC's own idle timeout, so a client that only sends PINGs would stay for good.
	c.timer = time.AfterFunc(c.server.o.Idle, c.expire)
	return err
}

// serve returns when the connection and all that was done for it have ended.
func (c *connection) serve() {
	c.busy.Go(c.acceptUni)
	for {
		q, err := c.conn.AcceptStream(context.Background())
		if err != nil {
			break
		}
		c.open(q)
	}
	// Handlers may still use the connection's buffers after its end.
	c.busy.Wait()
	c.asked.Close()
	c.timer.Stop()
}

// open begins a request.
func (c *connection) open(q *quic.Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The client knows about the end, or will know soon.
	if c.sealed {
		// RFC 9114 section 4.1.1: this code tells the client that it may send the request again elsewhere.
		cancel(q, codeRejected)
		q.ReleaseStreamCredit()
		c.countPointless()
		return
	}

	// RFC 9000 section 2.1: the numbers of a client's streams rise by four.
	c.next = q.StreamID() + 4
	s := newStream(c, q)
	c.streams[q.StreamID()] = s
	c.busy.Go(s.run)
}

// begun notes that the head of a request is there.
func (c *connection) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	c.excuse()
	c.timer.Stop()
}

// leave forgets a stream, and lets the client open another. lost is one that nothing, or half an answer, came of
// through the client's doing.
func (c *connection) leave(s *stream, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.q.StreamID())
	c.asked.Leave(s.size)
	// Only now may the client open another stream, so that handlers never queue.
	s.q.ReleaseStreamCredit()
	if s.begun {
		if c.requests--; c.requests == 0 && !c.sealed {
			c.timer.Reset(c.server.o.Idle)
		}
	}

	if len(c.streams) == 0 && c.sealed {
		c.timer.Reset(linger)
	}
	// A stream that the client abandons has cost a request. When the whole connection has ended, nobody can repeat
	// it.
	if lost && c.conn.Context().Err() == nil && !c.resets.Spend(c.server.o.Resets) {
		c.flood(traffic.Resets)
	}
}

// expire ends a connection that has brought no request for too long, whatever else it has brought, or whose last has
// been answered.
func (c *connection) expire() {
	c.mu.Lock()
	idle := c.requests == 0
	c.mu.Unlock()
	if idle {
		c.close(codeNone)
	}
}

// cancel ends both directions of a stream.
func cancel(q bidirectional, why code) {
	q.CancelRead(quic.StreamErrorCode(why))
	q.CancelWrite(quic.StreamErrorCode(why))
}

const (
	// For the client to learn that no more requests are taken, before the connection ends.
	linger       = 300 * time.Millisecond
	noticePeriod = time.Second // for a first request that is on its way
	everyStream  = 1<<62 - 4   // RFC 9114 section 5.2
)

// drain announces the end, and takes no more requests (RFC 9114 section 5.2): from a client that is new, only once its
// first had time to come.
func (c *connection) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()

	switch {
	case c.draining:
	// A client that has made requests before knows how to read GOAWAY, and sends a request that was not taken
	// again.
	case c.next > 0 || time.Since(c.began) > message.FirstRequest:
		c.seal()
	default:
		// RFC 9114 section 5.2: the highest number announces the end without refusing anything yet.
		c.goAway(everyStream)
		time.AfterFunc(noticePeriod, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.seal()
		})
	}

	c.draining = true
}

// seal is called with the lock held.
func (c *connection) seal() {
	c.sealed = true
	c.goAway(c.next)
	if len(c.streams) == 0 {
		c.timer.Reset(linger)
	}
}

// goAway says which streams are not taken any more. A client that gives its control stream no room hears of it at the
// end.
func (c *connection) goAway(from quic.StreamID) {
	last := quicvarint.Append(nil, uint64(from))
	frame := append(appendFrame(nil, frameGoAway, len(last)), last...)
	// The goroutine ends with the connection at the latest. Only one write happens at a time.
	go func() { _, _ = c.control.Write(frame) }()
}

func (c *connection) close(why code) { _ = c.conn.CloseWithError(quic.ApplicationErrorCode(why), "") }

// report says why the client is rejected.
func (c *connection) report(why traffic.Reason) { c.reportDetail(why, "") }

// reportDetail is report with what was wrong in particular.
func (c *connection) reportDetail(why traffic.Reason, what string) {
	if c.server.o.Rejected != nil {
		c.server.o.Rejected(why, c.facts.Addr, what)
	}
}

// fail acts on what was wrong with a stream, if it is of the kind that ends the connection. It reports whether it is.
func (c *connection) fail(err error) bool {
	var broken fatal
	switch {
	case errors.As(err, &broken):
	case errors.Is(err, io.ErrUnexpectedEOF):
		// The stream ended in the middle of a frame (RFC 9114 section 7.1).
		broken = fatal(codeFrame)
	default:
		return false
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	if !c.over && c.conn.Context().Err() == nil {
		c.over = true
		c.report(traffic.Malformed)
		c.close(code(broken))
	}

	return true
}

// flood ends the connection of a client that goes too far. It is called with the lock held.
func (c *connection) flood(why traffic.Reason) {
	if !c.over {
		c.over = true
		c.report(why)
		c.close(codeExcessiveLoad)
	}
}

// countPointless is called with the lock held, for a frame that may have come to no purpose.
func (c *connection) countPointless() {
	switch {
	case c.worthwhile > 0:
		c.worthwhile--
	case !c.pointless.Spend(c.server.o.NoopFrames):
		c.flood(traffic.NoopFrames)
	}
}

func (c *connection) notePointless() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.countPointless()
}

// excuse lets some pointless frames pass, for one that had a purpose. It is called with the lock held.
func (c *connection) excuse() { c.worthwhile = min(c.worthwhile+4, c.server.o.NoopFrames) }

func (c *connection) noteWorthwhile() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.excuse()
}

// skip reads over a frame that means nothing to us (RFC 9114 section 9).
func (c *connection) skip(r *reader) error {
	c.notePointless()
	for r.left > 0 {
		if r.from == r.to {
			if err := r.fill(); err != nil {
				return cutShort(err, true)
			}
			c.notePointless()
		}
		n := r.buffered()
		r.from, r.left = r.from+n, r.left-uint64(n)
	}
	return nil
}

// Streams that are not for requests (RFC 9114 section 6.2, RFC 9204 section 4.2).
const (
	uniControl = 0
	uniPush    = 1
	uniEncoder = 2
	uniDecoder = 3
)

func (c *connection) acceptUni() {
	var seen [4]bool
	var mu sync.Mutex
	for {
		q, err := c.conn.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		c.busy.Go(func() {
			defer q.ReleaseStreamCredit()
			r := &reader{source: q, buf: make([]byte, 128)}
			// A stream whose type never comes would hold a goroutine for as long as the connection.
			_ = q.SetReadDeadline(time.Now().Add(c.server.o.Header))
			kind, err := r.varint()
			// RFC 9114 section 6.2.3: types that we do not know are stopped, and are no error. Browsers send some
			// on purpose.
			if err != nil || kind > uniDecoder {
				q.CancelRead(quic.StreamErrorCode(codeStreamCreation))
				c.notePointless()
				return
			}

			mu.Lock()
			again := seen[kind]
			seen[kind] = true
			mu.Unlock()
			// The streams below stay open, and mostly silent, as long as the connection.
			_ = q.SetReadDeadline(time.Time{})
			c.fail(c.listen(r, kind, again))
		})
	}
}

// listen reads a stream whose end is the connection's.
func (c *connection) listen(r *reader, kind uint64, again bool) (err error) {
	switch {
	// RFC 9114 section 6.2.1: each critical stream exists once, and only servers push.
	case again, kind == uniPush:
		return fatal(codeStreamCreation)
	case kind == uniControl:
		err = c.readControl(r)
	default:
		err = c.readQPACK(r, kind)
	}

	// RFC 9114 section 6.2.1: the end of a critical stream ends the connection.
	var reset *quic.StreamError
	if errors.Is(err, io.EOF) || errors.As(err, &reset) {
		return fatal(codeClosedCritical)
	}
	return err
}

const maxControlFrame = 8 << 10

// readControl reads a client's control stream (RFC 9114 section 6.2.1).
func (c *connection) readControl(r *reader) error {
	kind, err := r.frame()
	if err != nil {
		return err
	}
	// RFC 9114 section 6.2.1: SETTINGS come first.
	if kind != frameSettings {
		return fatal(codeMissingSettings)
	}

	content, err := r.whole(maxControlFrame)
	if err != nil {
		return err
	}
	if err := checkSettings(content); err != nil {
		return err
	}

	pushes := uint64(0)
	for {
		kind, err := r.frame()
		if err != nil {
			return err
		}

		// RFC 9114 section 9: unknown frames are skipped. Browsers send some to keep servers from depending on the
		// known ones.
		if !known(kind) {
			if err := c.skip(r); err != nil {
				return err
			}
			continue
		}

		c.notePointless()
		if content, err = r.whole(maxControlFrame); err != nil {
			return err
		}

		if err := c.controlFrame(kind, content, &pushes); err != nil {
			return err
		}
	}
}

// controlFrame acts on a frame behind SETTINGS. pushes is the highest push that the client allows.
func (c *connection) controlFrame(kind uint64, content []byte, pushes *uint64) error {
	number, n, err := quicvarint.Parse(content)
	switch kind {
	case framePriorityUpdate:
		if err != nil || number%4 != 0 {
			return fatal(codeID)
		}
		c.prioritise(quic.StreamID(number), string(content[n:]))
		return nil
	case framePriorityOfPush, frameCancelPush:
		// We never push, so these frames make no sense.
		return fatal(codeID)
	case frameMaxPushID:
		// RFC 9114 section 7.2.7: the number must not shrink, although we never push.
		if number < *pushes {
			return fatal(codeID)
		}
		*pushes = number
	case frameGoAway:
	default:
		return fatal(codeFrameUnexpected)
	}

	if err != nil || n != len(content) {
		return fatal(codeFrame)
	}
	return nil
}

// readQPACK reads a stream of QPACK's instructions. Without a dynamic table there is little to say (RFC 9204 section
// 4).
func (c *connection) readQPACK(r *reader, kind uint64) error {
	for inside := false; ; {
		if r.from == r.to {
			if err := r.fill(); err != nil {
				return err
			}
			c.notePointless()
		}

		b := r.buf[r.from]
		r.from++

		switch {
		case inside: // an integer of several bytes
			inside = b&0x80 != 0
		case kind == uniDecoder && b&0xc0 == 0x40: // a stream is cancelled
			inside = b&0x3f == 0x3f
		case kind == uniDecoder:
			return fatal(codeQPACKDecoderStream)
		case b != 0x20: // the table's capacity is 0
			return fatal(codeQPACKEncoderStream)
		}
	}
}
