package http2

import (
	"time"

	"golang.org/x/net/http2"
)

// take acts on a frame.
func (c *connection) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		return c.onHeaders(f)
	case *http2.ContinuationFrame:
		return c.onFragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.onSettings(f)
		}
	case *http2.PingFrame:
		return c.onPing(f)
	// RFC 9113 section 8.4: a client cannot push.
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case *http2.PriorityFrame:
		// RFC 7540 section 5.3.1 made this a stream error, and conformance suites still ask for it. Other
		// priorities are ignored.
		if f.StreamDep == f.StreamID {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	}

	// What falls through to here had no effect. A flood of such frames costs us more than the client (CVE-2019-9512
	// and its relatives).
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.countPointless()
}

func (c *connection) onHeaders(f *http2.HeadersFrame) error {
	// RFC 9113 section 5.1.1: clients open odd streams.
	if f.StreamID%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}

	if err := c.heads.begin(f); err != nil {
		return err
	}
	if f.HasPriority() && f.Priority.StreamDep == f.StreamID {
		c.block.Fault = "the stream depends on itself"
	}
	if !f.HeadersEnded() {
		c.limit.Until(time.Now().Add(c.server.o.Header))
	}

	return c.onFragment(f.HeaderBlockFragment(), f.HeadersEnded())
}

// onFragment decodes a part of the fields, and acts on the last.
func (c *connection) onFragment(fragment []byte, last bool) error {
	if err := c.heads.add(fragment, last); err != nil || !last {
		return err
	}

	b := &c.block
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[b.id]
	switch {
	case s != nil:
		return c.trail(s)
	case b.id > c.lastID:
		return c.open()
	// The client sent these trailers before it knew of our reset.
	case c.wasDropped(b.id):
		return c.countPointless()
	}

	return http2.ConnectionError(http2.ErrCodeStreamClosed)
}

// wasDropped is called with the lock held.
func (c *connection) wasDropped(id uint32) bool {
	for _, dropped := range c.dropped {
		if dropped == id {
			return true
		}
	}
	return false
}

// unopened reports whether no frame may come for a stream, as the client has not opened it (RFC 9113 section 5.1). Where
// no streams are taken any more, it may have done so before it knew, and its frames are ignored (section 6.8): other
// streams still have answers to come. It is called with the lock held.
func (c *connection) unopened(id uint32) bool {
	return id%2 == 0 || id > c.lastID && !c.sealed
}

func (c *connection) onData(f *http2.DataFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, n := f.StreamID, int64(f.Length)
	if c.unopened(id) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	// Padding counts as well (RFC 9113 section 6.9.1), so the frame's length is compared and not the content's.
	if n > c.recvWindow {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}

	c.recvWindow -= n
	c.widen(n)

	data := f.Data()
	// Empty frames cost the client nine bytes each and bring nothing (CVE-2019-9518).
	if len(data) == 0 {
		if err := c.countPointless(); err != nil {
			return err
		}
	}

	// Whatever becomes of the content, the connection's window must be returned, or other streams starve.
	s := c.streams[id]
	switch {
	case s == nil && (c.wasDropped(id) || id > c.lastID):
		c.giveBack(n)
		return c.countPointless()
	case s == nil || s.remoteEnded:
		c.giveBack(n)
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	case n > s.recvWindow:
		c.giveBack(n)
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeFlowControl}
	}

	if len(data) > 0 {
		c.excuse()
	}

	s.recvWindow -= n
	if s.came += int64(len(data)); s.announced >= 0 && s.came > s.announced {
		c.giveBack(n)
		return streamError{id: id, what: faultMore}
	}

	if s.body.closed {
		// Content for a stream that we have answered is not wanted; its window is returned until the stream is
		// reset.
		if c.giveBack(n); s.localEnded {
			s.giveBack(n)
		}
	} else {
		// The framer reuses its buffer, so the queue copies.
		s.body.queue.put(data)
		padding := n - int64(len(data))
		c.giveBack(padding)
		s.giveBack(padding)
	}

	if f.StreamEnded() {
		return c.endRemote(s)
	}

	s.changed.Broadcast()
	return nil
}

// widen doubles the window of a client that sends much, as long as there is memory for what it may send: whether or not
// a handler reads, as one stream that nobody reads is not to hold up the others. It is called with the lock held.
func (c *connection) widen(n int64) {
	if c.used += n; c.used < c.window/2 || c.window == connWindow || c.err != nil {
		return
	}
	c.used = 0
	more := min(c.window, connWindow-c.window)
	if memory := c.server.o.Memory; memory != nil && !memory.Take(c.conn.Facts().Addr, more) {
		return
	}
	c.out = appendWindowUpdate(c.buffer(), 0, more)
	c.recvWindow += more
	c.window += more
	c.wake()
}

// giveBack lets the client send n more bytes. It is called with the lock held.
func (c *connection) giveBack(n int64) {
	if c.owed += n; c.owed >= c.window/4 && c.err == nil {
		c.out = appendWindowUpdate(c.buffer(), 0, c.owed)
		c.recvWindow += c.owed
		c.owed = 0
		c.wake()
	}
}

func (c *connection) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Window updates of one byte are a known flood. Sending content excuses as many as a fair client needs.
	if err := c.countPointless(); err != nil {
		return err
	}

	n := int64(f.Increment)
	if f.StreamID == 0 {
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}

		c.turns.next(c.sendWindow)
		return nil
	}

	if c.unopened(f.StreamID) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}

	if s := c.streams[f.StreamID]; s != nil {
		if s.sendWindow += n; s.sendWindow > maxWindow {
			return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
		}
		s.changed.Broadcast()
	}

	return nil
}

func (c *connection) onReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unopened(f.StreamID) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return c.countPointless()
	}
	c.remove(s, errGone)
	// Opening and resetting streams in a row costs the client two frames, and us a request (CVE-2023-44487).
	return c.countReset()
}

// onSettings acts on what matters to us: the window of streams. What else a client may announce concerns what we do not
// do.
func (c *connection) onSettings(f *http2.SettingsFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	window := c.peerWindow
	err := f.ForeachSetting(func(s http2.Setting) error {
		if s.ID == http2.SettingInitialWindowSize && s.Valid() == nil {
			window = int64(s.Val)
		}
		return s.Valid()
	})
	if err != nil {
		return err
	}

	// RFC 9113 section 6.9.2: the change applies to open streams as well, and may make their windows negative.
	change := window - c.peerWindow
	c.peerWindow = window
	for _, s := range c.streams {
		if s.sendWindow += change; s.sendWindow > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		s.changed.Broadcast()
	}

	c.out = appendSettingsAck(c.buffer())
	c.wake()
	// Each SETTINGS and PING makes us write. Reading stops until the client takes these answers.
	c.awaitRoom()
	return c.countPointless()
}

func (c *connection) onPing(f *http2.PingFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.IsAck() {
		if c.draining && f.Data == lastCall {
			c.seal()
		}
		return c.countPointless()
	}
	c.out = appendPing(c.buffer(), true, f.Data)
	c.wake()
	c.awaitRoom()
	return c.countPointless()
}

// awaitRoom stops reading from a client that does not read our answers. It is called with the lock held.
func (c *connection) awaitRoom() {
	for len(c.out) > outBuffer/2 && c.err == nil {
		c.changed.Wait()
	}
}
