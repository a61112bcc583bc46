package http3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"

	"padlock/internal/pool"
	"padlock/proxy/deadline"
	"padlock/proxy/message"
	"padlock/traffic"
)

var (
	errGone   = fmt.Errorf("the client has ended the stream: %w", io.ErrUnexpectedEOF)
	errBroken = fmt.Errorf("%w: %w", fatal(0), net.ErrClosed)
)

// bidirectional is a stream of QUIC, but in tests.
type bidirectional interface {
	io.ReadWriteCloser
	StreamID() quic.StreamID
	Context() context.Context
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	SetPriority(urgency int8, incremental bool)
	CancelRead(quic.StreamErrorCode)
	CancelWrite(quic.StreamErrorCode)
	ReleaseStreamCredit()
}

// stream is one request with its response.
type stream struct {
	c       *connection
	q       bidirectional
	in      reader
	room    *readRoom
	ctx     message.Context
	release func() bool // the end of the stream is the request's no longer
	begun   bool        // its head is there
	request message.Request
	block   message.Block
	body    body
	writer  writer

	size      int64 // of the head and the trailers, as it counts
	announced int64 // content; -1: any
	came      int64
	trailed   bool  // trailers have come
	err       error // that reading has ended with
	provoked  bool  // we had to reset it

	mu       sync.Mutex // guards what limits reading, and keeps 100 Continue before the final response
	closed   bool       // nothing more is to be read
	final    bool       // the final response has begun
	rejected bool       // it was the one to a malformed request, and has ended
}

type readRoom [4 << 10]byte

var readRooms = pool.Of(func(r *readRoom) []byte { return r[:] })

func newStream(c *connection, q bidirectional) *stream {
	s := &stream{c: c, q: q, room: readRooms.Get()}
	s.in = reader{source: q, buf: s.room[:]}
	s.block.Limit, s.block.Most = c.server.o.Head, c.server.o.Fields
	s.body.s, s.writer.s = s, s
	return s
}

// streamError is a request that is ended with its stream alone.
type streamError struct {
	code code
	what string
}

func (m streamError) Error() string { return m.what }

// What is wrong with a request beyond its fields.
const (
	faultNothing  = "the stream has ended before a request"
	faultMore     = "there is more content than Content-Length says"
	faultLess     = "there is less content than Content-Length says"
	faultTrailers = "the trailers are too large, or too many"
)

var errTooLarge = errors.New("the head is too large")

// run answers a request.
func (s *stream) run() {
	// The limit covers the head only. Content has limits of its own.
	_ = s.q.SetReadDeadline(time.Now().Add(s.c.server.o.Header))
	err := s.head()
	if err == nil {
		s.begun = true
		s.c.begun()
		err = s.content()
	}

	if err == nil {
		_ = s.q.SetReadDeadline(time.Time{})
		// QUIC cancels the stream's context when the client resets it, which is how a handler learns that its
		// client has gone.
		s.release = context.AfterFunc(s.q.Context(), s.ctx.Cancel)
		whole, kept := s.handle()
		over := s.writer.tunnelled || s.writer.over
		// The client ended the stream before we did.
		lost := !over && !s.release() || s.provoked
		s.finish(whole)
		if kept {
			s.writer.free()
			s.free()
		}

		s.c.leave(s, lost)
		return
	}

	s.refuse(err)
	s.free()
	s.c.leave(s, true)
}

// free gives back the buffer of the reader.
func (s *stream) free() {
	if s.room != nil {
		s.in.buf = nil
		readRooms.Put(s.room)
		s.room = nil
	}
}

// shrink leaves a tunnel, which may be idle for long, with a buffer for the heads of frames.
func (s *stream) shrink() {
	pending := s.in.buf[s.in.from:s.in.to]
	buf := make([]byte, max(64, len(pending)))
	n := copy(buf, pending)
	s.free()
	s.in.buf, s.in.from, s.in.to = buf, 0, n
}

// refuse ends a stream of which no request came.
func (s *stream) refuse(err error) {
	var odd streamError
	switch {
	// The connection has ended, and the stream with it.
	case s.c.fail(err):
	case errors.Is(err, errTooLarge):
		s.c.report(traffic.HeaderSize)
		s.respond(431, cmp.Or(s.request.Method, s.block.Method()), "The request's fields are too large, or too many", codeNone)
	// The client ended the stream in the middle of a request, and waits for no answer.
	case errors.As(err, &odd) && odd.code == codeIncomplete:
		s.c.reportDetail(traffic.Malformed, odd.what)
		cancel(s.q, odd.code)
	case errors.As(err, &odd):
		s.c.reportDetail(traffic.Malformed, odd.what)
		s.respond(400, cmp.Or(s.request.Method, s.block.Method()), malformed(odd.what), odd.code)
	case deadline.Exceeded(err):
		s.c.report(traffic.SlowHeader)
		cancel(s.q, codeIncomplete)
	default: // the client's end, or the connection's
		cancel(s.q, codeIncomplete)
	}
}

func malformed(what string) string { return "The request is malformed: " + what }

// respond answers without the writer, and ends the stream: a client that sees a reset alone may take it for a fault of
// the connection, and send the request again and again (RFC 9114 section 4.1.2). A reset would overtake the answer; why
// says instead that nothing more is read.
func (s *stream) respond(status int, method, text string, why code) {
	text += "\n"
	w := writer{s: s}
	w.status(status)
	w.field("date", message.Date())
	w.field("content-type", "text/plain; charset=utf-8")
	w.field("content-length", strconv.Itoa(len(text)))
	w.close()
	if method != "HEAD" {
		w.out = append(appendFrame(w.out, frameData, len(text)), text...)
	}

	// A client that grants no window must not hold the stream open.
	_ = s.q.SetWriteDeadline(time.Now().Add(respondTime))
	if _, err := s.q.Write(w.out); err != nil {
		cancel(s.q, why)
		return
	}

	_ = s.q.Close()
	s.q.CancelRead(quic.StreamErrorCode(why))
}

// respondTime is how long a client may take to make room for some hundred bytes.
const respondTime = time.Second

// finish ends what the handler has left open.
func (s *stream) finish(whole bool) {
	switch {
	case s.rejected:
	case whole:
		_ = s.q.Close()
		// RFC 9114 section 4.1.1: the rest of the request is not wanted.
		s.q.CancelRead(quic.StreamErrorCode(codeNone))
	default:
		cancel(s.q, cmp.Or(s.writer.code, codeInternal))
	}
}

// handle reports whether the response is whole, and whether nobody uses the stream any more.
func (s *stream) handle() (whole, kept bool) {
	defer func() {
		if cause := recover(); cause != nil {
			s.c.server.o.Log.Error("request lost", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			whole, kept = false, false
		}
	}()
	s.c.server.o.Handler.Serve(&s.ctx, &s.request, &s.writer)
	return s.writer.end(), true
}

// head reads and checks the head of a request (RFC 9114 section 4.1).
func (s *stream) head() error {
	for {
		kind, err := s.in.frame()
		switch {
		case errors.Is(err, io.EOF):
			return streamError{codeIncomplete, faultNothing}
		case err != nil:
			return err
		case kind == frameHeaders:
			return s.fields()
		// RFC 9114 section 4.1: DATA before HEADERS is an error of the connection. Unknown frames are skipped.
		case known(kind):
			return fatal(codeFrameUnexpected)
		}

		if err := s.c.skip(&s.in); err != nil {
			return err
		}
	}
}

// fields makes a request of what a head says.
func (s *stream) fields() error {
	if err := s.decode(); err != nil {
		return err
	}
	if s.block.TooLarge() {
		return errTooLarge
	}

	r := &s.request
	r.Conn = s.c.each()
	ok := false
	if s.announced, ok = s.block.Request(r, "HTTP/3.0", false); !ok {
		return streamError{codeMessage, s.block.Fault}
	}
	if r.Fields = s.block.Fields; r.Upgrade != "" {
		// An extended CONNECT has a tunnel instead of content, so Content-Length means nothing.
		s.announced = -1
	}

	s.prioritise()
	return nil
}

// decode reads a list of fields into the block.
func (s *stream) decode() error {
	if s.in.left > maxBlock(s.block.Limit) {
		return errTooLarge
	}

	// The list is read as a whole, as QPACK's decoder cannot wait in the middle of a field. A hundred of them on each
	// connection would be more than all content may take.
	size := int64(s.in.left)
	if !s.c.asked.Take(size) {
		return errTooLarge
	}
	defer s.c.asked.Leave(size)
	encoded, err := s.in.whole(s.in.left)
	if err != nil {
		return err
	}

	s.block.Begin()
	for next := decoder.Decode(encoded); !s.block.TooLarge(); {
		f, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return s.hold()
		case err != nil:
			return fatal(codeDecompression)
		}
		s.block.Add(f.Name, f.Value)
	}

	return nil
}

// hold counts what has been read of a request until it is answered.
func (s *stream) hold() error {
	n := s.block.Size()
	if !s.c.asked.Take(n) {
		return errTooLarge
	}
	s.size += n
	return nil
}

// decoder has no dynamic table, and so no state.
var decoder = qpack.NewDecoder()

// maxBlock is how much is read of fields of which limit bytes are taken.
func maxBlock(limit int) uint64 { return 2 * uint64(limit) }

// content finds out whether the request has any. HTTP/3 says so by the end of the stream, which comes with the head
// where there is none; only where there is hardly ever content it is waited for.
func (s *stream) content() error {
	r := &s.request
	if r.Upgrade != "" || r.Method == "CONNECT" {
		return nil
	}

	likelyNone := s.announced == 0 || s.in.ended()
	// For these methods the end of the stream usually comes in the same packet. Waiting for it spares the target a
	// chunked request without content.
	switch r.Method {
	case "GET", "HEAD", "DELETE", "OPTIONS", "TRACE":
		likelyNone = likelyNone || s.announced < 0 && !r.Expect
	}

	if likelyNone {
		switch err := s.next(); {
		case errors.Is(err, io.EOF):
			r.ContentLength, r.Expect = 0, false
			return nil
		case err != nil:
			return err
		}
	}

	r.Body = &s.body
	if r.Expect {
		s.body.ask = s.writer.proceed
	}

	return nil
}

// next goes to the next frame with content. io.EOF tells that the request is whole.
func (s *stream) next() error {
	for {
		kind, err := s.in.frame()
		switch {
		case errors.Is(err, io.EOF):
			if s.announced >= 0 && s.came != s.announced {
				return streamError{codeMessage, faultLess}
			}
			return err
		case err != nil:
			return err
		case kind == frameData && !s.trailed:
			// RFC 9114 section 4.1.2: the request is malformed as soon as a frame announces too much, whether or
			// not the content comes.
			if s.announced >= 0 && s.in.left > uint64(s.announced-s.came) {
				return streamError{codeMessage, faultMore}
			}

			if s.in.left > 0 {
				s.c.noteWorthwhile()
				return nil
			}
			// Empty frames cost the client two bytes each, and bring nothing.
			s.c.notePointless()
		case kind == frameHeaders && !s.trailed && s.request.Upgrade == "":
			if err := s.trailers(); err != nil {
				return err
			}
		case known(kind):
			return fatal(codeFrameUnexpected)
		default:
			if err := s.c.skip(&s.in); err != nil {
				return err
			}
		}
	}
}

// trailers keeps the head's fields as they are.
func (s *stream) trailers() error {
	s.trailed = true
	s.block.Fields = nil
	if err := s.decode(); err != nil {
		if errors.Is(err, errTooLarge) {
			return streamError{codeExcessiveLoad, faultTrailers}
		}
		return err
	}

	fields, ok := s.block.Trailers()
	if !ok {
		return streamError{codeMessage, cmp.Or(s.block.Fault, faultTrailers)}
	}
	s.body.trailers = fields
	return nil
}

// prioritise has the response go before or behind others as the client wants it (RFC 9218 section 4).
func (s *stream) prioritise() {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted, ok := s.request.Fields.Get("priority")
	c.prioritises = c.prioritises || ok
	urgency, incremental := priority(wanted)
	// A client that says nothing about priorities gets its responses side by side, so that a long one does not hold
	// up the others.
	s.q.SetPriority(urgency, incremental || !c.prioritises)
}

// prioritise changes what a request said, if that is still open.
func (c *connection) prioritise(id quic.StreamID, wanted string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prioritises = true
	if s := c.streams[id]; s != nil {
		s.q.SetPriority(priority(wanted))
	}
}

const usualUrgency = 3

// priority reads u and i of a dictionary (RFC 9218 section 4, RFC 9651 section 3.2); what else it has, or is not well
// formed, is nothing to us.
func priority(text string) (urgency int8, incremental bool) {
	urgency = usualUrgency
	for member := range strings.SplitSeq(text, ",") {
		member, _, _ = strings.Cut(strings.Trim(member, " \t"), ";")
		switch key, value, _ := strings.Cut(member, "="); {
		case key == "u" && len(value) == 1 && '0' <= value[0] && value[0] <= '7':
			urgency = int8(value[0] - '0')
		case member == "i", member == "i=?1":
			incremental = true
		case member == "i=?0":
			incremental = false
		}
	}
	return urgency, incremental
}
