package http2

import (
	"net/http"
	"os"
	"time"

	"golang.org/x/net/http2"

	"padlock/internal/pool"
	"padlock/proxy/deadline"
	"padlock/proxy/message"
	"padlock/traffic"
)

// writer sends one response. One goroutine calls it, but for proceed, which the reader of the request's body calls.
type writer struct {
	s     *stream
	block []byte    // fields, encoded and not yet sent
	begun [256]byte // where block begins
	room  *writeRoom
	n     int // content in room that was not yet sent

	outgoing message.Outgoing
	headed   bool
	aborted  bool
	trailed  bool // nothing follows what is in block and room: it ends the stream
	err      error
	code     http2.ErrCode // that an aborted response ends with; 0: INTERNAL_ERROR

	// Guarded by the connection's lock:
	sent      bool // a final head was begun
	tunnelled bool
}

type writeRoom [32 << 10]byte

var writeRooms = pool.Of(func(r *writeRoom) []byte { return r[:] })

// release gives back what only a response needs.
func (w *writer) release() {
	if w.room != nil {
		writeRooms.Put(w.room)
		w.room = nil
	}
}

// proceed sends 100 Continue, unless the response has begun: then the client knows already.
func (w *writer) proceed() error {
	c := w.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.s.err == nil && !w.sent {
		c.send(w.s.id, appendStatus(nil, http.StatusContinue), false)
		c.wake()
	}
	return w.s.err
}

// Interim implements message.Writer.
func (w *writer) Interim(status int, fields message.Fields) error {
	if err := fields.Writable(); err != nil {
		return err
	}
	w.block = appendFields(appendStatus(w.block, status), fields)
	return w.send(false)
}

// Head implements message.Writer; what it writes goes out with the first content, or when the response ends.
func (w *writer) Head(status int, fields message.Fields, length int64) error {
	if err := fields.Writable(); err != nil {
		return err
	}

	w.begin(false)
	w.headed = true
	w.block = appendFields(appendStatus(w.block, status), fields)
	if _, dated := fields.Get("Date"); !dated {
		w.block = appendField(w.block, "date", message.Date())
	}
	length = w.outgoing.Begin(w.s.request.Method, status, fields, length)
	if length >= 0 {
		w.block = appendLength(w.block, length)
	}

	return w.err
}

// begin notes that the final response has begun.
func (w *writer) begin(tunnel bool) {
	c := w.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	w.sent, w.tunnelled = true, tunnel
	// The request's content may now come at any pace.
	w.s.changed.Broadcast()
}

// Room implements message.Writer.
func (w *writer) Room() []byte {
	if w.room == nil {
		w.room = writeRooms.Get()
	}
	// The little room that is left would make for small reads from the target.
	if w.n > len(w.room)*7/8 && w.send(false) != nil {
		w.n = 0
	}
	return w.room[w.n:]
}

// Write implements io.Writer. Content beyond the announced length is an error, and never reaches the client.
func (w *writer) Write(p []byte) (n int, _ error) {
	if w.err == nil {
		n, w.err = w.outgoing.Write(p, w)
	}
	return n, w.err
}

// Filled implements message.Rooms.
func (w *writer) Filled(n int) error {
	w.n += n
	return w.err
}

// Flush implements message.Writer. Trailers end the stream.
func (w *writer) Flush() error { return w.send(w.trailed) }

// Trailers implements message.Writer.
func (w *writer) Trailers(fields message.Fields) {
	switch {
	case !w.outgoing.Whole():
		// The content is shorter than announced, so the stream is reset rather than ended.
	case len(fields) == 0 || w.outgoing.Bodiless():
		w.trailed = true
	case fields.Writable() != nil:
		w.aborted = true
	case w.send(false) == nil:
		w.block, w.trailed = appendFields(w.block, fields), true
	}
}

// Abort implements message.Writer.
func (w *writer) Abort() { w.aborted = true }

// Fallback implements message.Writer (RFC 9113 section 7).
func (w *writer) Fallback() { w.aborted, w.code = true, http2.ErrCodeHTTP11Required }

// Reset implements message.Writer. Codes about the target's connection, or about what padlock has sent there, are none
// of the client's.
func (w *writer) Reset(code uint32) {
	w.Abort()
	// gRPC clients tell these codes apart: a refused stream is safe to send again, a cancelled one is not.
	switch code := http2.ErrCode(code); {
	case code == http2.ErrCodeCancel, code == http2.ErrCodeEnhanceYourCalm, code == http2.ErrCodeRefusedStream && !w.headed:
		w.code = code
	}
}

// end completes the response. It reports whether it is whole.
func (w *writer) end() bool {
	if w.tunnelled {
		return w.s.ended()
	}
	if w.aborted || w.err != nil || !w.headed || !w.outgoing.Whole() {
		return false
	}
	return w.send(true) == nil
}

// ended reports whether our side of the stream is over.
func (s *stream) ended() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.localEnded
}

// send sends what there is, and with end our end of the stream.
func (w *writer) send(end bool) error {
	if w.err == nil {
		w.err = w.s.send(w.block, w.content(), end)
	}
	w.block, w.n = w.block[:0], 0
	return w.err
}

func (w *writer) content() []byte {
	if w.n == 0 {
		return nil
	}
	return w.room[:w.n]
}

// send hands fields and content over to the connection, as its windows allow.
func (s *stream) send(block, content []byte, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.err != nil || s.localEnded {
		return s.err
	}
	defer func() {
		c.wake()
		// Another stream can have what this one has left, or has not taken, of the connection's window.
		c.turns.next(c.sendWindow)
	}()

	if len(block) > 0 {
		// Fields are not subject to flow control, so only our own buffer bounds them.
		if err := s.awaitRoom(); err != nil {
			return err
		}
		c.send(s.id, block, end && len(content) == 0)
		// END_STREAM goes with the fields where there is no content, which saves a frame.
		if len(content) == 0 {
			s.endLocal(end)
			return nil
		}
	}

	for len(content) > 0 {
		n, err := s.grant(len(content))
		if err != nil {
			return err
		}
		// The last frame of content carries the end, which saves a frame for each response.
		last, flags := end && n == len(content), http2.Flags(0)
		if last {
			flags = http2.FlagDataEndStream
		}
		c.out = append(appendFrameHeader(c.buffer(), n, http2.FrameData, flags, s.id), content[:n]...)
		c.excuse()
		s.endLocal(last)
		content = content[n:]
	}

	if end && !s.localEnded {
		c.out = appendFrameHeader(c.buffer(), 0, http2.FrameData, http2.FlagDataEndStream, s.id)
		s.endLocal(true)
	}

	return nil
}

// endLocal notes that we have said everything. It is called with the lock held.
func (s *stream) endLocal(end bool) {
	if !end {
		return
	}
	s.localEnded = true
	if s.remoteEnded {
		s.c.remove(s, nil)
	}
}

// grant waits until some content may be sent, and takes it off the windows: at most a frame's, so that all streams have
// their turn. It is called with the lock held.
func (s *stream) grant(wanted int) (int, error) {
	c := s.c
	defer c.turns.leave(&s.changed)
	for {
		if err := s.awaitRoom(); err != nil {
			return 0, err
		}
		if s.mayGo() {
			break
		}
		// The client can only grant more when it has received what was written so far.
		c.wake()
		if err := s.awaitWindow(); err != nil {
			return 0, err
		}
	}

	n := int(min(int64(wanted), maxFrame, s.sendWindow, c.sendWindow))
	s.sendWindow -= int64(n)
	c.sendWindow -= int64(n)
	s.sent += int64(n)
	return n, nil
}

// mayGo reports whether the windows let content be sent, and it is this stream's turn. It is called with the lock held.
func (s *stream) mayGo() bool {
	return s.sendWindow > 0 && s.c.sendWindow > 0 && s.c.turns.isFor(&s.changed)
}

// awaitWindow waits for the client to grant something, as long as it takes content at the rate that it has to bring
// content at: a client that grants byte after byte stalls too. It is called with the lock held.
func (s *stream) awaitWindow() error {
	c, began := s.c, time.Now()
	o, paused := &c.server.o, false
	patience := deadline.Patience(o.BodyIdle, o.Rate, s.sent, s.starvedFor)
	for limit := began.Add(patience); !s.mayGo(); {
		if s.sendWindow > 0 {
			c.turns.join(&s.changed, &s.sendWindow)
		}
		c.turns.next(c.sendWindow)
		inTime := s.wait(limit)
		if s.err == nil && !inTime && !paused && o.Pause != nil {
			// Video players stop reading on purpose. A bounded number of clients may do so for longer.
			if resume, ok := o.Pause(c.conn.Facts().Addr); ok {
				defer resume()
				paused, inTime = true, true
				limit = began.Add(deadline.Patience(o.Send, o.Rate, s.sent, s.starvedFor))
			}
		}

		switch {
		case s.err != nil:
			return s.err
		case !inTime:
			c.report(traffic.SlowReader)
			return os.ErrDeadlineExceeded
		}
	}

	s.starvedFor += time.Since(began)
	return nil
}

// awaitRoom waits until there is room for a frame. It is called with the lock held.
func (s *stream) awaitRoom() error {
	c := s.c
	for s.err == nil && len(c.out) > outBuffer-maxFrame-frameHeader {
		c.wake()
		c.changed.Wait()
	}
	return s.err
}

// Tunnel implements message.Writer (RFC 8441 section 5).
func (w *writer) Tunnel(fields message.Fields) (message.Tunnel, error) {
	if err := message.CheckAccept(&w.s.request, fields); err != nil {
		return nil, err
	}
	if err := fields.Writable(); err != nil {
		return nil, err
	}

	w.begin(true)
	w.headed = true
	w.block = appendStatus(w.block, http.StatusOK)
	for name, value := range fields.SentExtended {
		w.block = appendField(w.block, name, value)
	}

	if err := w.send(false); err != nil {
		return nil, err
	}

	return (*tunnel)(w.s), nil
}

// tunnel is the client's side of a WebSocket.
type tunnel stream

func (t *tunnel) Read(p []byte) (int, error) { return t.body.Read(p) }

func (t *tunnel) Write(p []byte) (int, error) {
	if err := (*stream)(t).send(nil, p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Until implements message.Tunnel.
func (t *tunnel) Until(at time.Time) {
	s := (*stream)(t)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.readLimit = at
}

// CloseWrite implements message.Tunnel.
func (t *tunnel) CloseWrite() error { return (*stream)(t).send(nil, nil, true) }

// Close implements message.Tunnel: it ends both directions.
func (t *tunnel) Close() error {
	s := (*stream)(t)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.err == nil && !(s.localEnded && s.remoteEnded) {
		s.c.drop(s.id, http2.ErrCodeCancel)
		s.c.remove(s, errGone)
	}
	return nil
}
