package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/deadline"
)

const (
	firstStreams = 100  // until the target has said how many it takes
	mostStreams  = 1000 // on a connection, whatever it takes
	lastStream   = 1<<31 - 1

	// Of a response that its client does not read yet, at first, and for those who read it as fast as it comes.
	unread     = 256 << 10
	mostUnread = 1 << 20
	mostGrown  = 8 << 20 // that all streams of a connection together have beyond the first
	// Of all that share a connection: so many that those who do not read leave enough to others.
	windows   = 1<<31 - 1
	windowDue = 16 << 20 // of it is given back at once

	lastWords  = 100 * time.Millisecond // to read, where nothing can be written any more
	goodbye    = 250 * time.Millisecond // to write GOAWAY
	maxReplies = 1000                   // to PING and SETTINGS that wait to be written
)

// backend is one connection to a target. The goroutine that runs serve reads frames, and a second one writes what those
// who use the connection append.
type backend struct {
	t     *Transport
	conn  net.Conn
	ended chan struct{} // closed at the end of serve
	limit deadline.Deadline
	heads
	source reader
	framer *http2.Framer

	output            // and its lock
	work    sync.Cond // flushing or over
	writing sync.WaitGroup
	over    bool

	replies    int // that wait in out
	replyRound int // of the output that they are in
	conduct

	streams  map[uint32]*exchange
	reserved int // places of streams that are about to begin
	next     uint32
	begun    bool // a request was answered
	greeted  bool // the target's first SETTINGS have come
	last     bool // no further places
	gone     bool // no further streams

	most       int   // streams that the target takes
	extended   bool  // it takes extended CONNECT (RFC 8441)
	peerWindow int64 // the target's initial window for streams
	sendWindow int64 // what we may send
	recvWindow int64 // what the target may send
	owed       int64 // what came of it and was not yet given back
	turns      turns // of the streams that wait for sendWindow
	grown      int64 // by which the windows of streams are larger than at first
	stray      int64 // what may still come for streams that we have ended

	timer *time.Timer
	due   time.Time // when it fires; zero: it does not
	idle  time.Time // since when nothing is open; zero: something is
	came  int       // frames
	seen  int       // of those when the timer looked
	quiet time.Time // since when none has come
	asked time.Time // when the last PING was sent; zero: none was since the last HEADERS or DATA
	ping  time.Time // when the answer to our PING is late; zero: none is out
}

var (
	errEnded     = errors.New("the connection ended")
	errSilent    = errors.New("the connection has died: a PING was not answered")
	errFirst     = errors.New("its first frame is not SETTINGS")
	errGoAway    = errors.New("the connection takes no further requests")
	errOtherHTTP = errors.New("it answers by HTTP/1")
)

func newBackend(t *Transport, conn net.Conn, reserved, most int) *backend {
	b := &backend{
		t: t, conn: conn, ended: make(chan struct{}), streams: map[uint32]*exchange{}, reserved: reserved, next: 1, most: most,
		peerWindow: initialWindow, sendWindow: initialWindow, recvWindow: windows,
	}
	b.changed.L, b.work.L = &b.mu, &b.mu
	b.mostPointless = maxPointless
	b.heads.init(maxResponseHead, maxResponseFields)
	b.block.Answer = true
	b.limit.Init(conn.SetReadDeadline)
	b.quiet = time.Now()
	b.idle = b.quiet
	b.timer = time.AfterFunc(endless, b.tick)
	// What the first requests append comes behind our preface.
	b.out = append(b.buffer(), http2.ClientPreface...)
	b.out = appendSettings(b.out,
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: unread},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxResponseHead},
	)
	b.out = appendWindowUpdate(b.out, 0, windows-initialWindow)
	return b
}

// serve talks to the target until the connection ends.
func (b *backend) serve() {
	defer close(b.ended)
	room := rooms.Get()
	defer rooms.Put(room)
	b.source = reader{source: b.conn, limit: &b.limit, buf: room[:]}
	b.framer = http2.NewFramer(nil, &b.source)
	b.framer.SetReuseFrames()
	b.framer.SetMaxReadFrameSize(maxFrame)

	b.mu.Lock()
	b.wake()
	b.wakeBy(b.quiet.Add(b.t.pingAfter))
	b.wakeBy(b.idle.Add(b.t.o.Idle))
	b.mu.Unlock()
	b.writing.Go(b.flush)

	err := b.first()
	for err == nil {
		err = b.serveFrame()
	}
	b.end(err)
}

// first takes the target's preface, which is SETTINGS (RFC 9113 section 3.4).
func (b *backend) first() error {
	if err := b.source.fill(); err != nil {
		return err
	}
	// Enough of it has come in the first read, or it is no HTTP/1 that speaks there.
	if bytes.HasPrefix(b.source.buffered(), []byte("HTTP/1")) {
		return fmt.Errorf("%w: %w", ErrNotSpoken, errOtherHTTP)
	}

	frame, err := b.framer.ReadFrame()
	if err != nil {
		var broken http2.ConnectionError
		if errors.As(err, &broken) || errors.Is(err, http2.ErrFrameTooLarge) {
			err = fmt.Errorf("%w: %w", ErrNotSpoken, err)
		}
		return err
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok || settings.IsAck() {
		return fmt.Errorf("%w: %w", ErrNotSpoken, errFirst)
	}
	return b.onSettings(settings)
}

func (b *backend) serveFrame() error {
	frame, err := b.framer.ReadFrame()
	if err != nil {
		return unreadable(err)
	}
	return b.take(frame)
}

// unreadable is what a frame costs that could not be read.
func unreadable(err error) error {
	var one http2.StreamError
	if errors.As(err, &one) {
		// What the framer refuses may have been a block of fields that was not decoded, which the table needs.
		return http2.ConnectionError(one.Code)
	}
	return err
}

// reserve takes a place for a stream, if there is one.
func (b *backend) reserve() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	// A connection on which a PING waits for its answer may have died.
	if !b.open() || !b.ping.IsZero() || len(b.streams)+b.reserved >= b.most {
		return false
	}
	b.reserved++
	return true
}

// unreserve gives the place back.
func (b *backend) unreserve() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reserved--
	b.settled()
}

// open reports whether streams can begin. It is called with the lock held.
func (b *backend) open() bool { return b.err == nil && !b.last && b.next < lastStream }

// used reports whether the connection has served a request.
func (b *backend) used() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.begun
}

// retire ends the connection when nothing is open on it any more, and reports whether that is now.
func (b *backend) retire() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = true
	b.settled()
	return len(b.streams)+b.reserved == 0
}

// settled notices that nothing is open any more. It is called with the lock held.
func (b *backend) settled() {
	if len(b.streams)+b.reserved > 0 {
		return
	}
	// A target that takes no streams would have us keep a connection of no use for each request.
	if b.last = b.last || b.greeted && b.most == 0; b.last {
		// The goroutine that reads wakes, and closes.
		b.limit.Interrupt()
		return
	}
	b.idle = time.Now()
	b.wakeBy(b.idle.Add(b.t.o.Idle))
}

// wake sees to it that out is written. It is called with the lock held.
func (b *backend) wake() {
	if !b.flushing && b.err == nil {
		b.flushing = true
		b.work.Signal()
	}
}

// flush writes what there is to say, until the connection is over.
func (b *backend) flush() {
	for b.awaitWork() {
		b.write(b.conn, b.t.o.ResponseHeader, func(error) {
			// What the target has said before it ended, perhaps that it speaks something else, is read first.
			b.out = b.out[:0]
			b.last, b.gone = true, true
			b.limit.Until(time.Now().Add(lastWords))
		})
	}
}

func (b *backend) awaitWork() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.flushing && !b.over {
		b.work.Wait()
	}
	return !b.over
}

// end finishes the connection.
func (b *backend) end(cause error) {
	code, polite := http2.ErrCodeNo, true
	var broken http2.ConnectionError
	var far floodError
	b.mu.Lock()
	// What would begin now could get no answer.
	b.last, b.gone = true, true
	switch {
	case errors.As(cause, &far):
		code, cause = http2.ErrCodeEnhanceYourCalm, fmt.Errorf("%w: it goes too far: %w", ErrMalformed, cause)
	case errors.Is(cause, ErrNotSpoken):
		polite = false
	case errors.As(cause, &broken):
		code, cause = http2.ErrCode(broken), fmt.Errorf("%w: %w", ErrMalformed, cause)
	case errors.Is(cause, http2.ErrFrameTooLarge):
		code, cause = http2.ErrCodeFrameSize, fmt.Errorf("%w: %w", ErrMalformed, cause)
	case deadline.Exceeded(cause) && b.err == nil && len(b.streams)+b.reserved == 0:
		// Nothing is open: our own end.
	default:
		polite = false
		if errors.Is(cause, io.EOF) || deadline.Exceeded(cause) {
			cause = io.ErrUnexpectedEOF
		}
		cause = fmt.Errorf("%w: %w", errEnded, cause)
	}

	for _, x := range b.streams {
		b.lose(x, cause)
	}
	if polite && b.err == nil {
		// A request that has not left counts as one that the target has not got, and must not leave now.
		b.out = b.out[:0]
		b.out = appendGoAway(b.buffer(), 0, code, "")
		b.wake()
		late := time.AfterFunc(goodbye, func() { b.conn.Close() })
		defer late.Stop()
		for b.flushing {
			b.changed.Wait()
		}
	}

	b.fail(cause)
	b.over = true
	b.timer.Stop()
	b.work.Signal()
	b.mu.Unlock()
	b.conn.Close()
	b.writing.Wait()
	b.t.forget(b)
}

// fail ends all that is open. It is called with the lock held.
func (b *backend) fail(cause error) {
	if b.err == nil {
		b.err = cause
	}
	for _, x := range b.streams {
		b.lose(x, b.err)
	}
	b.changed.Broadcast()
}

// lose ends a stream that its connection has no part in any more. It is called with the lock held.
func (b *backend) lose(x *exchange, err error) {
	// Nothing of it has left where what was appended with it was never taken.
	if x.round == b.rounds && !errors.Is(err, ErrUnprocessed) {
		err = fmt.Errorf("%w: %w", ErrUnprocessed, err)
	}
	b.remove(x, err)
}

// wakeBy has tick look at that time. It is called with the lock held.
func (b *backend) wakeBy(at time.Time) {
	if b.err == nil && (b.due.IsZero() || at.Before(b.due)) {
		b.due = at
		b.timer.Reset(max(time.Until(at), 0))
	}
}

// tick looks for what is late: answers, the end of an idle connection, and a target that says nothing.
func (b *backend) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return
	}

	now := time.Now()
	b.due = time.Time{}
	b.expire(now)
	if len(b.streams)+b.reserved == 0 {
		if now.Sub(b.idle) >= b.t.o.Idle {
			b.last = true
			b.limit.Interrupt()
			return
		}
		b.wakeBy(b.idle.Add(b.t.o.Idle))
	}

	if b.seen != b.came {
		b.seen, b.quiet = b.came, now
	}
	switch {
	case b.ping.IsZero() && now.Sub(b.quiet) >= b.t.pingAfter && b.mayAsk(now):
		b.doubt(now)
	case b.ping.IsZero() && now.Sub(b.quiet) >= b.t.pingAfter:
		b.wakeBy(now.Add(b.t.pingAfter))
	case b.ping.IsZero():
		b.wakeBy(b.quiet.Add(b.t.pingAfter))
	case !now.Before(b.ping):
		b.fail(fmt.Errorf("%w: %w", errEnded, errSilent))
		b.limit.Interrupt()
	default:
		b.wakeBy(b.ping)
	}
}

// pingAgain is how soon a target that is silent for good reason can be asked again. Servers of gRPC end connections that
// ask more often than every five minutes while they send neither HEADERS nor DATA, or while no stream is open.
const pingAgain = 6 * time.Minute

// mayAsk reports whether a PING offends nobody. It is called with the lock held.
func (b *backend) mayAsk(now time.Time) bool {
	return b.asked.IsZero() || len(b.streams) > 0 && now.Sub(b.asked) >= pingAgain
}

// doubt asks whether the target still hears. It is called with the lock held.
func (b *backend) doubt(now time.Time) {
	b.ping, b.asked = now.Add(b.t.pongWithin), now
	b.out = appendPing(b.buffer(), false, lastCall)
	b.wake()
	b.wakeBy(b.ping)
}

// expire ends the streams whose answers are late. It is called with the lock held.
func (b *backend) expire(now time.Time) {
	deaf := false
	for _, x := range b.streams {
		switch {
		case x.limit.IsZero():
		case now.Before(x.limit):
			b.wakeBy(x.limit)
		default:
			// Not a single frame has come since the request was sent.
			deaf = deaf || x.after == b.came
			b.reset(x, http2.ErrCodeCancel, errLate)
		}
	}

	if deaf && b.ping.IsZero() {
		b.doubt(now)
	}
}
