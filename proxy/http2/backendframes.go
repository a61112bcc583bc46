package http2

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/message"
	"padlock/traffic"
)

// take acts on a frame of the target's.
func (b *backend) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.DataFrame:
		return b.onData(f)
	case *http2.HeadersFrame:
		if err := b.heads.begin(f); err != nil {
			return err
		}
		return b.onFragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame:
		return b.onFragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.WindowUpdateFrame:
		return b.onWindowUpdate(f)
	case *http2.RSTStreamFrame:
		return b.onReset(f)
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return b.onSettings(f)
		}
	case *http2.PingFrame:
		return b.onPing(f)
	case *http2.GoAwayFrame:
		return b.onGoAway(f)
	// We have said that nothing may be pushed.
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	b.hear()
	return b.countPointless()
}

// hear notes that the target lives. It is called with the lock held.
func (b *backend) hear() {
	b.came++
	if !b.ping.IsZero() {
		b.ping = time.Time{}
	}
}

// stream returns the one that a frame is about; nil: it has ended. It is called with the lock held.
func (b *backend) stream(id uint32) (*exchange, error) {
	b.hear()
	// RFC 9113 section 5.1: an idle stream cannot get anything, and a target opens none.
	if id%2 == 0 || id >= b.next {
		return nil, http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return b.streams[id], nil
}

func (b *backend) onData(f *http2.DataFrame) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, err := b.stream(f.StreamID)
	if err != nil {
		return err
	}

	// Padding counts as well (RFC 9113 section 6.9.1), so the frame's length is compared and not the content's.
	n := int64(f.Length)
	if b.recvWindow -= n; b.recvWindow < 0 {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	b.giveBack(n)

	data := f.Data()
	if len(data) == 0 {
		if err := b.countPointless(); err != nil {
			return err
		}
	} else {
		b.excuse()
		b.asked = time.Time{}
	}

	switch {
	case x == nil:
		// Of a stream that we have ended, some may be on its way.
		if b.stray -= n; b.stray < 0 {
			return http2.ConnectionError(http2.ErrCodeStreamClosed)
		}
		return nil
	case x.remoteEnded || !x.headed:
		b.malform(x, faultBeforeHead)
		return nil
	case n > x.recvWindow:
		b.reset(x, http2.ErrCodeFlowControl, fmt.Errorf("%w: %s", ErrMalformed, faultWindow))
		return nil
	}

	x.recvWindow -= n
	// Nobody reads the padding.
	x.giveBack(n - int64(len(data)))
	// RFC 9113 section 8.1.1: content of another length than the head says makes the response malformed.
	if x.came += int64(len(data)); x.announced >= 0 && x.came > x.announced {
		b.malform(x, faultMore)
		return nil
	}
	// The framer reuses its buffer, so the queue copies.
	x.queue.put(data)
	if f.StreamEnded() {
		b.endRemote(x)
	}
	x.changed.Broadcast()
	return nil
}

// What is wrong with a response beyond its head.
const (
	faultBeforeHead = "content comes before its head"
	faultWindow     = "there is more content than there may be"
	faultHeadSize   = "its head is too large"
)

// malform ends a stream whose response could be understood in two ways. It is called with the lock held.
func (b *backend) malform(x *exchange, what string) {
	b.reset(x, http2.ErrCodeProtocol, fmt.Errorf("%w: %s", ErrMalformed, what))
}

// giveBack lets the target send more on the connection: at once, as the windows of streams bound what is unread. It is
// called with the lock held.
func (b *backend) giveBack(n int64) {
	if b.owed += n; b.owed >= windowDue && b.err == nil {
		b.out = appendWindowUpdate(b.buffer(), 0, b.owed)
		b.recvWindow += b.owed
		b.owed = 0
		b.wake()
	}
}

// endRemote notes that the target has said everything on a stream. It is called with the lock held.
func (b *backend) endRemote(x *exchange) {
	if x.announced >= 0 && x.came != x.announced {
		b.malform(x, faultLess)
		return
	}
	x.remoteEnded = true
	x.changed.Broadcast()
	if x.localEnded {
		b.remove(x, nil)
	}
}

// remove forgets a stream that has ended, or ends it with err. It is called with the lock held.
func (b *backend) remove(x *exchange, err error) {
	if b.streams[x.id] == x {
		delete(b.streams, x.id)
		if !x.remoteEnded {
			b.stray += x.recvWindow
		}
		b.settled()
	}
	if err != nil && x.err == nil {
		x.err = err
	}
	x.changed.Broadcast()
	if x.crowded {
		// A target that does not read never gives the room that is waited for.
		b.changed.Broadcast()
	}
}

// reset ends a stream, and says so to the target. It is called with the lock held.
func (b *backend) reset(x *exchange, code http2.ErrCode, err error) {
	if b.streams[x.id] == x && b.err == nil {
		b.out = appendReset(b.buffer(), x.id, code)
		b.wake()
	}
	b.remove(x, err)
}

// onFragment decodes a part of the fields, and acts on the last.
func (b *backend) onFragment(fragment []byte, last bool) error {
	if err := b.heads.add(fragment, last); err != nil || !last {
		return err
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	x, err := b.stream(b.block.id)
	switch {
	case err != nil:
		return err
	case x == nil:
		return b.countPointless()
	case x.remoteEnded:
		b.malform(x, faultSecondHead)
		return nil
	}

	b.excuse()
	b.asked = time.Time{}
	x.answered = true
	switch {
	case x.headed:
		b.trail(x)
	case b.block.TooLarge():
		b.malform(x, faultHeadSize)
	default:
		b.head(x)
	}
	return nil
}

// head takes a response's head, be it the final one or an interim. It is called with the lock held.
func (b *backend) head(x *exchange) {
	k := &b.block
	status, length, ok := k.Response(x.u.r.Method, k.end)
	switch {
	case !ok:
		b.malform(x, k.Fault)
	case status >= 200:
		b.begun = true
		x.headed, x.limit, x.announced = true, time.Time{}, length
		x.begin(status, k.Fields, k.end)
		if k.end {
			b.endRemote(x)
		}
		x.changed.Broadcast()
	// Together they may be as large as a head, as their client may not read them.
	case x.interims == maxInterim || x.hinted > maxResponseHead:
		b.malform(x, faultInterims)
	default:
		x.interims++
		for _, f := range k.Fields {
			x.hinted += len(f.Name) + len(f.Value)
		}
		x.hints = append(x.hints, hint{status, k.Fields})
		x.changed.Broadcast()
	}
}

const faultInterims = "there are too many interim responses"

// trail takes a response's trailers. It is called with the lock held.
func (b *backend) trail(x *exchange) {
	fields, ok := b.block.Trailers()
	switch {
	case !b.block.end:
		b.malform(x, faultSecondHead)
	case !ok && b.block.Fault != "":
		b.malform(x, b.block.Fault)
	case !ok:
		b.malform(x, faultTrailers)
	default:
		x.trailers = fields
		b.endRemote(x)
	}
}

func (b *backend) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Window updates of one byte are a known flood. Sending content excuses as many as a fair target needs.
	if err := b.countPointless(); err != nil {
		return err
	}

	n := int64(f.Increment)
	if f.StreamID == 0 {
		b.hear()
		if b.sendWindow += n; b.sendWindow > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		b.turns.next(b.sendWindow)
		return nil
	}

	x, err := b.stream(f.StreamID)
	if err != nil || x == nil {
		return err
	}
	if x.sendWindow += n; x.sendWindow > maxWindow {
		b.reset(x, http2.ErrCodeFlowControl, fmt.Errorf("%w: a window is too large", ErrMalformed))
		return nil
	}
	x.changed.Broadcast()
	return nil
}

func (b *backend) onReset(f *http2.RSTStreamFrame) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, err := b.stream(f.StreamID)
	switch {
	case err != nil:
		return err
	case x == nil:
		return b.countPointless()
	}

	// RFC 9113 section 8.1: after a whole response, NO_ERROR says that the rest of the request is not wanted.
	if x.remoteEnded {
		x.localEnded = true
		b.remove(x, nil)
		return nil
	}

	var reset error = &message.ResetError{Code: uint32(f.ErrCode), Err: http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode}}
	if f.ErrCode == http2.ErrCodeRefusedStream && !x.answered {
		reset = fmt.Errorf("%w: %w", ErrUnprocessed, reset)
	}
	b.remove(x, reset)
	return nil
}

// onSettings acts on what matters to us: how many streams there may be, their window, and what they may be.
func (b *backend) onSettings(f *http2.SettingsFrame) error {
	most, err := b.settings(f)
	if err == nil {
		// The transport's lock comes before the connection's.
		b.t.expect(most)
	}
	return err
}

func (b *backend) settings(f *http2.SettingsFrame) (most int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hear()
	window := b.peerWindow
	if !b.greeted {
		// Where nothing is said, there may be any number (RFC 9113 section 6.5.2).
		b.most = mostStreams
	}
	err = f.ForeachSetting(func(s http2.Setting) error {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			window = int64(s.Val)
		case http2.SettingMaxConcurrentStreams:
			b.most = int(min(s.Val, mostStreams))
		case http2.SettingEnableConnectProtocol:
			b.extended = s.Val == 1
		}
		return s.Valid()
	})
	if err != nil {
		return 0, err
	}

	b.greeted = true
	b.changed.Broadcast()
	// RFC 9113 section 6.9.2: the change applies to open streams as well, and may make their windows negative.
	change := window - b.peerWindow
	b.peerWindow = window
	for _, x := range b.streams {
		if x.sendWindow += change; x.sendWindow > maxWindow {
			return 0, http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		x.changed.Broadcast()
	}

	if b.most == 0 {
		b.settled()
	}
	b.out = appendSettingsAck(b.buffer())
	return b.most, b.replied()
}

func (b *backend) onPing(f *http2.PingFrame) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hear()
	if f.IsAck() {
		return b.countPointless()
	}
	b.out = appendPing(b.buffer(), true, f.Data)
	return b.replied()
}

// replied sends a reply, unless the target does not read those before. It is called with the lock held.
func (b *backend) replied() error {
	if b.replyRound != b.rounds {
		// Those before are being written.
		b.replyRound, b.replies = b.rounds, 0
	}
	if b.replies++; b.replies > maxReplies {
		return floodError(traffic.NoopFrames)
	}
	b.wake()
	return b.countPointless()
}

// onGoAway notes that the target takes no further requests, and has not acted on the last of them (RFC 9113 section
// 6.8).
func (b *backend) onGoAway(f *http2.GoAwayFrame) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hear()
	b.last, b.gone = true, true
	b.changed.Broadcast()
	for id, x := range b.streams {
		if id > f.LastStreamID && !x.answered {
			b.remove(x, fmt.Errorf("%w: %w", ErrUnprocessed, errGoAway))
		}
	}
	b.settled()
	return b.countPointless()
}

// cut is what a response that does not come whole ends with.
var errCut = fmt.Errorf("the response is incomplete: %w", io.ErrUnexpectedEOF)
