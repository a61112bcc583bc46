package http2

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/message"
	"padlock/traffic"
)

var (
	errGone  = fmt.Errorf("the client has ended the stream: %w", io.ErrUnexpectedEOF)
	errReset = errors.New("the client has broken the rules of HTTP/2")
)

// stream is one request with its response. It is never used again, so that whoever holds a part of it holds its own.
// What is below request is guarded by its connection's lock.
type stream struct {
	c       *connection
	id      uint32
	ctx     message.Context
	request message.Request
	writer  writer

	size        int64     // of the head and the trailers, as it counts
	answered    bool      // the handler has ended: nothing counts any more
	changed     sync.Cond // anything below, or the connection's windows
	body        body
	announced   int64 // content; -1: any
	came        int64
	recvWindow  int64
	owed        int64 // what was read of the window and not yet given back
	sendWindow  int64
	readLimit   time.Time // of a tunnel; zero: none
	starvedFor  time.Duration
	sent        int64 // content
	remoteEnded bool
	localEnded  bool
	malformed   bool  // it was answered with 400, and its reset follows
	err         error // reset, by whomever
}

// open begins the stream whose fields have been read. It is called with the lock held.
func (c *connection) open() error {
	b := &c.block
	if c.sealed {
		// The client knows that the stream is closed, or will know soon.
		return c.countPointless()
	}
	c.lastID = b.id
	if b.TooLarge() {
		return c.tooLarge(b)
	}
	s := &stream{c: c, id: b.id, recvWindow: streamWindow, sendWindow: c.peerWindow, remoteEnded: b.end}
	s.changed.L, s.body.s, s.writer.s = &c.mu, s, s
	s.writer.block = s.writer.begun[:0]
	s.request.Conn = c.conn.Facts()
	announced, ok := b.Request(&s.request, "HTTP/2.0", b.end)
	switch {
	case !ok:
		return streamError{b.id, b.Fault, true}
	case len(c.streams) >= c.server.o.Streams || c.running >= c.server.o.Streams && len(c.waiting) >= c.server.o.Streams:
		return http2.StreamError{StreamID: b.id, Code: http2.ErrCodeRefusedStream}
	// A hundred heads of the largest size on each connection would be more than all content may take.
	case !s.hold():
		return c.tooLarge(b)
	}

	c.excuse()
	s.announced, s.request.Fields = announced, b.Fields
	if !b.end {
		if s.request.Upgrade == "" && s.request.ContentLength != 0 {
			s.request.Body = &s.body
		}
		if s.request.Expect {
			s.body.ask = s.writer.proceed
		}
	}

	c.streams[s.id] = s
	// Handlers of streams that were reset still count, or resets would get around the limit.
	if c.running >= c.server.o.Streams {
		c.waiting = append(c.waiting, s)
		return nil
	}

	c.running++
	c.crew.busy = true
	c.hand(s)
	return nil
}

// hold counts what has been read of a request until it is answered. It reports false where there is no room for that. It
// is called with the lock held.
func (s *stream) hold() bool {
	n := s.c.block.Size()
	switch {
	case s.answered:
		return true
	case !s.c.asked.Take(n):
		return false
	}
	s.size += n
	return true
}

// forget ends the count. It is called with the lock held.
func (s *stream) forget() {
	s.c.asked.Leave(s.size)
	s.size, s.answered = 0, true
}

// tooLarge answers 431 without a handler. It is called with the lock held.
func (c *connection) tooLarge(b *block) error {
	c.report(traffic.HeaderSize)
	c.respond(b.id, 431, b.Method(), "The request's fields are too large, or too many", c.peerWindow)
	if !b.end {
		c.lingerWithout(b.id, http2.ErrCodeNo)
	}
	c.wake()
	c.awaitRoom()
	return c.countReset()
}

// respond answers without a handler. What the text has to say is left out where window, the stream's, or the
// connection's has no room for it. It is called with the lock held.
func (c *connection) respond(id uint32, status int, method, text string, window int64) {
	text += "\n"
	n := len(text)
	silent := method == "HEAD" || int64(n) > min(window, c.sendWindow)
	fields := appendField(appendStatus(nil, status), "date", message.Date())
	if !silent || method == "HEAD" {
		fields = appendField(fields, "content-type", "text/plain; charset=utf-8")
		fields = appendField(fields, "content-length", strconv.Itoa(n))
	} else {
		fields = appendField(fields, "content-length", "0")
	}

	// The text goes out without the writer, as there is no handler whose goroutine could wait for a window.
	if c.send(id, fields, silent); !silent {
		c.sendWindow -= int64(n)
		c.out = append(appendFrameHeader(c.buffer(), n, http2.FrameData, http2.FlagDataEndStream, id), text...)
	}
}

// send appends a block of fields to what is to be written. It is called with the lock held.
func (c *connection) send(id uint32, block []byte, end bool) {
	// RFC 7541 section 4.2: the first block says that our table is empty. Every later block can then be encoded
	// without the connection's lock.
	if !c.tableless {
		c.tableless = true
		block = append([]byte{noTable}, block...)
	}
	c.out = appendHeaders(c.buffer(), id, block, end)
}

// trail takes a request's trailers. It is called with the lock held.
func (c *connection) trail(s *stream) error {
	if s.remoteEnded {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeStreamClosed}
	}
	fields, ok := c.block.Trailers()
	switch {
	case !c.block.end:
		return streamError{id: s.id, what: faultSecondHead}
	case !ok, !s.hold():
		return streamError{id: s.id, what: cmp.Or(c.block.Fault, faultTrailers)}
	}
	s.body.trailers = fields
	return c.endRemote(s)
}

// endRemote notes that the client has said everything. It is called with the lock held.
func (c *connection) endRemote(s *stream) error {
	// RFC 9113 section 8.1.1: content of another length makes the request malformed. A backend of HTTP/1.1 would
	// wait for the rest, or read the next request as a part of it.
	if s.announced >= 0 && s.came != s.announced {
		return streamError{id: s.id, what: faultLess}
	}

	s.remoteEnded = true
	s.changed.Broadcast()
	// The client has heard all of the answer by now, so the reset can no longer overtake it.
	if s.malformed {
		c.drop(s.id, http2.ErrCodeProtocol)
	}
	if s.localEnded {
		c.remove(s, nil)
	}
	return nil
}

// remove forgets a stream that has ended, or ends it with err. It is called with the lock held.
func (c *connection) remove(s *stream, err error) {
	if c.streams[s.id] == s {
		delete(c.streams, s.id)
	}

	if err != nil && s.err == nil {
		s.err = err
		s.ctx.Cancel()
		s.changed.Broadcast()
		// A request that waits for a handler has none to give its window back.
		if i := slices.Index(c.waiting, s); i >= 0 {
			c.waiting = slices.Delete(c.waiting, i, i+1)
			s.forget()
			c.giveBack(int64(s.body.queue.drop()))
		}
	}
	c.settled()
}

// settled notices that nothing is open any more. It is called with the lock held.
func (c *connection) settled() {
	if !c.idle() {
		return
	}
	// Content that comes little by little needs no larger window.
	c.used = 0
	// The last stream of an announced end: the goroutine that reads wakes and closes.
	if c.sealed {
		c.limit.Interrupt()
	}
	c.limitIdle()
	c.changed.Broadcast()
}

// do answers a request, and then those that have waited for it.
func (s *stream) do() {
	for c := s.c; s != nil; {
		whole, lost := s.handle()
		c.mu.Lock()
		// The lock is held from the end of one stream to the start of the next, so that the number of handlers is
		// never too small.
		s.finish(whole)
		s.forget()
		if !lost {
			s.writer.release()
		}
		s = nil
		if len(c.waiting) > 0 {
			s = c.waiting[0]
			c.waiting = append(c.waiting[:0], c.waiting[1:]...)
		} else {
			c.running--
			c.settled()
		}

		c.mu.Unlock()
	}
}

// handle reports whether the response is whole, and whether the handler was lost: then somebody may still use the
// stream.
func (s *stream) handle() (whole, lost bool) {
	defer func() {
		if cause := recover(); cause != nil {
			s.c.server.o.Log.Error("request lost", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			whole, lost = false, true
		}
	}()
	s.c.server.o.Handler.Serve(&s.ctx, &s.request, &s.writer)
	s.discard()
	return s.writer.end(), false
}

// discard drops what is left of the content, now and from now on, so that the client finds room for it while it reads
// the answer.
func (s *stream) discard() {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	// Without the window back, a client that insists on sending all of its content first would wait for us forever.
	n := int64(s.body.queue.drop())
	s.body.closed = true
	c.giveBack(n)
	if s.owed += n; s.owed > 0 && !s.remoteEnded && s.err == nil {
		s.grantOwed()
	}
}

// finish closes a stream whose handler has returned. It is called with the lock held.
func (s *stream) finish(whole bool) {
	c := s.c
	c.giveBack(int64(s.body.queue.drop()))
	s.body.closed = true
	switch {
	case s.err != nil:
		return
	// An incomplete response must not end with END_STREAM, which would make it look complete.
	case !whole:
		c.drop(s.id, cmp.Or(s.writer.code, http2.ErrCodeInternal))
		c.remove(s, errGone)
	case !s.remoteEnded:
		// RFC 9113 section 8.1: NO_ERROR says that the rest of the request is not wanted.
		s.linger(http2.ErrCodeNo)
	}
}

// lingerStream is how long a client may still send content after the whole of the answer to it.
const lingerStream = time.Second

// linger resets a stream that has been answered, unless the client ends it meanwhile. What it sends until then is
// dropped: some clients, curl among them, take a reset that they read together with the answer for a failure, and never
// look at the answer. It is called with the lock held.
func (s *stream) linger(code http2.ErrCode) {
	c := s.c
	time.AfterFunc(c.server.linger, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.streams[s.id] == s {
			c.drop(s.id, code)
			c.remove(s, nil)
		}
	})
}

// lingerWithout is linger for a stream that was answered without a handler. It is called with the lock held.
func (c *connection) lingerWithout(id uint32, code http2.ErrCode) {
	// Malformed requests must not occupy more streams than others may.
	if len(c.streams) >= c.server.o.Streams {
		c.drop(id, code)
		return
	}
	s := &stream{c: c, id: id, recvWindow: streamWindow, announced: -1, localEnded: true}
	s.changed.L, s.body.s, s.writer.s = &c.mu, s, s
	s.body.closed, s.malformed = true, code == http2.ErrCodeProtocol
	c.streams[id] = s
	s.linger(code)
}

// wait waits for a change, at most until limit; the zero time is no limit. It reports false when the limit has passed.
// It is called with the lock held.
func (s *stream) wait(limit time.Time) bool {
	if limit.IsZero() {
		s.changed.Wait()
		return true
	}

	left := time.Until(limit)
	if left <= 0 {
		return false
	}

	c := s.c
	// sync.Cond has no timeout, so a timer wakes everybody who waits on this stream.
	timer := time.AfterFunc(left, func() {
		// Taking the lock makes sure that the wait has begun.
		c.mu.Lock()
		defer c.mu.Unlock()
		s.changed.Broadcast()
	})
	s.changed.Wait()
	timer.Stop()
	return true
}

// giveBack lets the client send n more bytes on this stream. It is called with the lock held.
func (s *stream) giveBack(n int64) {
	if s.owed += n; s.owed >= streamWindow/4 && !s.remoteEnded && s.err == nil {
		s.grantOwed()
	}
}

// grantOwed is called with the lock held.
func (s *stream) grantOwed() {
	s.c.out = appendWindowUpdate(s.c.buffer(), s.id, s.owed)
	s.recvWindow += s.owed
	s.owed = 0
	s.c.wake()
}
