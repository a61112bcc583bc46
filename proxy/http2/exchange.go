package http2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/message"
)

// exchange is one request on a connection, and then its response's body. It is never used again, so that whoever holds a
// part of it holds its own. What is below changed is guarded by the connection's lock.
type exchange struct {
	b        *backend
	ctx      *message.Context
	u        *upload
	response message.Response
	id       uint32
	round    int            // of the connection's output that its head is in
	after    int            // frames that had come before it was sent
	sender   sync.WaitGroup // of content that needs waiting

	changed     sync.Cond
	hints       []hint // interim responses that are to be passed on
	interims    int
	hinted      int  // bytes of their fields
	answered    bool // something came
	headed      bool // the final head has come
	proceed     bool // the content is wanted: 100 has come, or is not waited for
	sending     bool // the sender is at work
	closed      bool
	limit       time.Time // for the head; zero: none
	readLimit   time.Time // of a tunnel; zero: none
	queue       queue
	window      int64 // that the target was given; grows for those who read fast
	recvWindow  int64 // what of it may still come
	owed        int64 // what was read and is not yet given back
	announced   int64 // content; -1: any
	came        int64
	received    int64
	trailers    message.Fields
	sendWindow  int64
	crowded     bool // waits for room in what is written
	localEnded  bool
	remoteEnded bool
	err         error // why the stream ended, if not by itself
}

// hint is an interim response.
type hint struct {
	status int
	fields message.Fields
}

var errLate = fmt.Errorf("it did not answer: %w", os.ErrDeadlineExceeded)

// expectContinue is how long a target's 100 is waited for, which it may never send (RFC 9110 section 10.1.1).
const expectContinue = time.Second

// start sends a request on the place that was reserved for it.
func (b *backend) start(ctx *message.Context, u *upload) (*exchange, error) {
	if err := u.fill(); err != nil {
		b.unreserve()
		return nil, err
	}

	x := &exchange{b: b, ctx: ctx, u: u, announced: -1, window: unread, recvWindow: unread}
	x.changed.L = &b.mu
	if !ctx.Hold(message.Closer(x.cancel)) {
		b.unreserve()
		return nil, ctx.Err()
	}
	if u.r.Upgrade != "" {
		if err := b.awaitExtended(x); err != nil {
			ctx.Release()
			return nil, err
		}
	}
	if err := b.put(x); err != nil {
		ctx.Release()
		return nil, err
	}
	if x.sending {
		x.sender.Go(x.stream)
	}
	return x, nil
}

// put begins a stream, with as much of its content as needs no waiting.
func (b *backend) put(x *exchange) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	// A target that reads nothing gets no heads on top of those that wait.
	for len(b.out) > outBuffer/2 && b.full() == nil && x.err == nil {
		b.changed.Wait()
	}
	b.reserved--
	if err := cmp.Or(x.err, b.full()); err != nil {
		b.settled()
		return err
	}

	x.id, x.round, x.after, x.sendWindow = b.next, b.rounds, b.came, b.peerWindow
	b.next += 2
	b.streams[x.id] = x
	u := x.u
	content := u.content()
	n := int64(len(content))
	now := u.whole && n <= min(x.sendWindow, b.sendWindow)
	tunnel := u.r.Upgrade != ""
	bare := !tunnel && (u.r.Body == nil || now && n == 0 && len(u.trailers) == 0)
	head := u.head
	if x.id == 1 {
		// The first block says that our table is empty, and stays so whatever the target would let us have.
		head = append([]byte{noTable}, head...)
	}
	b.out = appendHeaders(b.buffer(), x.id, head, bare)
	// The answer may take long. For another try the head is made anew.
	u.head = nil
	switch {
	case tunnel:
	case bare:
		x.localEnded = true
	case now:
		b.appendContent(x, content, len(u.trailers) == 0)
		b.appendTrailers(x, u.trailers)
	default:
		x.sending = true
	}

	x.proceed = !u.r.Expect
	// The time for an answer begins when the request is complete.
	if x.localEnded || u.r.Expect || tunnel {
		x.limitBy(b.t.o.ResponseHeader)
	}
	b.wake()
	return nil
}

// full says why no stream can begin. It is called with the lock held.
func (b *backend) full() error {
	switch {
	case b.err != nil:
		return fmt.Errorf("%w: %w", ErrUnprocessed, b.err)
	case b.gone, b.next >= lastStream, b.greeted && len(b.streams) >= b.most:
		return fmt.Errorf("%w: %w", ErrUnprocessed, errGoAway)
	}
	return nil
}

// appendContent sends what the windows have room for, at most a frame's where others wait too. It is called with the
// lock held.
func (b *backend) appendContent(x *exchange, content []byte, end bool) {
	for first := true; first || len(content) > 0; first = false {
		n := min(len(content), maxFrame)
		flags := http2.Flags(0)
		if end && n == len(content) {
			flags = http2.FlagDataEndStream
		}
		b.out = append(appendFrameHeader(b.buffer(), n, http2.FrameData, flags, x.id), content[:n]...)
		x.sendWindow -= int64(n)
		b.sendWindow -= int64(n)
		content = content[n:]
		b.excuse()
	}
	if end {
		b.endLocal(x)
	}
}

// appendTrailers ends a stream with trailers, if there are any. It is called with the lock held.
func (b *backend) appendTrailers(x *exchange, trailers message.Fields) {
	if len(trailers) > 0 {
		b.out = appendHeaders(b.buffer(), x.id, appendFields(nil, trailers), true)
		b.endLocal(x)
	}
}

// endLocal notes that we have said everything. It is called with the lock held.
func (b *backend) endLocal(x *exchange) {
	x.localEnded = true
	if x.remoteEnded {
		b.remove(x, nil)
	}
}

// limitBy limits how long the head may take from now on. It is called with the lock held.
func (x *exchange) limitBy(patience time.Duration) {
	if x.headed || patience == endless {
		return
	}
	x.limit = time.Now().Add(patience)
	x.b.wakeBy(x.limit)
}

// cancel ends the exchange for a client that has gone. It waits for nothing.
func (x *exchange) cancel() { x.abort(http2.ErrCodeCancel, context.Canceled) }

func (x *exchange) abort(code http2.ErrCode, err error) {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	x.b.reset(x, code, err)
	// Also where the stream has not begun yet, or its content is still read behind its end.
	if x.err == nil {
		x.err = err
	}
	if x.id == 0 {
		x.b.changed.Broadcast()
	}
}

// answer waits for the final head, and passes interim ones on.
func (x *exchange) answer(interim message.Interim) (*message.Response, error) {
	if x.u.r.Expect && x.u.r.Body != nil {
		// Older targets never send a 100, and want the content all the same.
		defer time.AfterFunc(expectContinue, x.goAhead).Stop()
	}

	for {
		next, err := x.await()
		switch {
		case err != nil:
			x.settle()
			return nil, err
		case next == nil:
			if !x.sendingNow() {
				x.u.release()
			}
			return &x.response, nil
		case next.status == 100:
			// The first read of the content sends the client its own.
			x.goAhead()
			continue
		}
		if err := interim.Interim(next.status, next.fields); err != nil {
			x.abort(http2.ErrCodeCancel, err)
			x.settle()
			return nil, err
		}
	}
}

// await waits for an interim response, or with nil for the final head.
func (x *exchange) await() (*hint, error) {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	for {
		switch {
		// Interim responses come first, however the exchange has ended by now.
		case len(x.hints) > 0 && (x.headed || x.err == nil):
			next := x.hints[0]
			x.hints = x.hints[1:]
			return &next, nil
		case x.headed:
			return nil, nil
		case x.err != nil:
			return nil, x.err
		}
		x.changed.Wait()
	}
}

// goAhead has the content sent that waits for a 100.
func (x *exchange) goAhead() {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	x.proceed = true
	x.changed.Broadcast()
}

// begin makes the response of its final head.
func (x *exchange) begin(status int, fields message.Fields, whole bool) {
	length := x.announced
	if x.u.r.Method == "HEAD" || status == 304 {
		// HEAD: if the length is known, a field says so.
		length = -1
	}
	if x.u.r.Upgrade != "" && status/100 == 2 {
		x.opened(fields)
		return
	}
	_, declared := fields.Get("trailer")
	x.response = message.Response{Status: status, Fields: fields, ContentLength: length, Trailing: !whole && (declared || fields.GRPC()), Body: x}
}

// Read implements io.Reader. io.EOF comes only when the content is whole.
func (x *exchange) Read(p []byte) (int, error) {
	b := x.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for x.queue.n == 0 {
		switch {
		case x.closed:
			return 0, errBodyClosed
		case x.remoteEnded, x.announced == 0 && x.bodiless():
			return 0, io.EOF
		case x.err != nil:
			return 0, x.broken()
		case len(p) == 0:
			return 0, nil
		}
		if err := x.waitToRead(); err != nil {
			return 0, err
		}
	}

	n := x.queue.take(p)
	x.received += int64(n)
	x.giveBack(int64(n))
	if x.queue.n == 0 && x.remoteEnded {
		return n, io.EOF
	}
	return n, nil
}

// bodiless reports whether nothing follows the head, whether or not the target has ended the stream with it.
func (x *exchange) bodiless() bool {
	return x.u.r.Method == "HEAD" || x.response.Status == 204 || x.response.Status == 304
}

// broken is why content ends that is not whole.
func (x *exchange) broken() error {
	if errors.Is(x.err, errEnded) {
		return fmt.Errorf("%w: %w", errCut, x.err)
	}
	return x.err
}

// giveBack lets the target send n more bytes, and more than before where they are read as fast as they come: the window
// holds up a target that is far away. It is called with the lock held.
func (x *exchange) giveBack(n int64) {
	b := x.b
	if x.owed += n; x.owed < x.window/4 || x.remoteEnded || x.err != nil || b.err != nil {
		return
	}
	if x.queue.n == 0 && x.received >= x.window && x.window < mostUnread && b.grown+x.window <= mostGrown {
		b.grown += x.window
		x.owed += x.window
		x.window *= 2
	}
	b.out = appendWindowUpdate(b.buffer(), x.id, x.owed)
	x.recvWindow += x.owed
	x.owed = 0
	b.wake()
}

// Trailers implements message.Body.
func (x *exchange) Trailers() message.Fields {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	return x.trailers
}

// Buffered implements message.Body.
func (x *exchange) Buffered() int {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	return x.queue.n
}

// Received implements message.Body.
func (x *exchange) Received() int64 {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	return x.received
}

// Close ends the exchange.
func (x *exchange) Close() error {
	b := x.b
	b.mu.Lock()
	first := !x.closed
	x.closed = true
	if b.streams[x.id] == x {
		b.reset(x, http2.ErrCodeCancel, errBodyClosed)
	}
	if first {
		b.grown -= x.window - unread
	}
	x.queue.drop()
	x.changed.Broadcast()
	b.mu.Unlock()
	if first {
		x.settle()
	}
	return nil
}

// settle lets go of all that belongs to the client: of its context, and of its content, where a Read that waits would
// keep the answer waiting with it.
func (x *exchange) settle() {
	x.ctx.Release()
	x.b.mu.Lock()
	reading := x.sending && x.u.begun
	x.b.mu.Unlock()
	if reading {
		_ = x.u.r.Body.Close()
	}
	x.sender.Wait()
	if x.headed {
		x.u.release()
	}
}

// sendingNow reports whether the sender reads the client's content, or may.
func (x *exchange) sendingNow() bool {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	return x.sending
}
