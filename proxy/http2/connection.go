package http2

import (
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"time"

	"golang.org/x/net/http2"

	"padlock/internal/fair"
	"padlock/internal/pool"
	"padlock/proxy/deadline"
	"padlock/proxy/socket"
	"padlock/traffic"
)

const (
	maxStreams    = 100       // where nothing else is said
	streamWindow  = 512 << 10 // bytes that a client may send on a stream before its handler has read them
	baseWindow    = 128 << 10 // and on all streams together, at first
	connWindow    = 1 << 20   // at most, where there is memory for it
	initialWindow = 65535     // RFC 9113 section 6.9.2
	headerTable   = 4096      // RFC 9113 section 6.5.2
	parkAfter     = time.Second
	maxWindow     = math.MaxInt32
)

// connection is one client's. Its reading goroutine owns what is above output.
type connection struct {
	server *Server
	conn   Conn
	limit  deadline.Deadline
	heads
	*engine // nil while parked

	output  // and its lock
	streams map[uint32]*stream
	waiting []*stream // for a handler: there are as many as streams
	running int       // handlers, those of reset streams too
	crew    crew
	asked   *fair.Share // heads and trailers of requests that are not answered
	lastID  uint32      // the highest that the client has opened
	dropped []uint32    // streams that we reset last: what was on its way is not the client's mistake

	peerWindow int64 // the client's initial window for streams
	sendWindow int64 // what we may send
	turns      turns // of the streams that wait for sendWindow
	recvWindow int64 // what the client may send
	owed       int64 // what was read of it and not yet given back
	window     int64 // what may be unread, or on its way
	used       int64 // of that, since it is as large, or since nothing was open
	tableless  bool  // noTable was sent
	parked     bool
	greeted    bool // both prefaces are through
	draining   bool // Shutdown has begun
	sealed     bool // no further streams
	conduct
}

// engine is what a connection needs while frames come.
type engine struct {
	source reader
	framer *http2.Framer
	room   *readRoom
}

type readRoom [4 << 10]byte

var readRooms = pool.Of(func(r *readRoom) []byte { return r[:] })

func newEngine() *engine {
	e := &engine{room: readRooms.Get()}
	e.framer = http2.NewFramer(nil, &e.source)
	e.framer.SetReuseFrames()
	e.framer.SetMaxReadFrameSize(maxFrame)
	return e
}

func newConnection(s *Server, conn Conn) *connection {
	c := &connection{server: s, conn: conn, peerWindow: initialWindow, sendWindow: initialWindow, recvWindow: initialWindow}
	c.changed.L = &c.mu
	c.limit.Init(conn.SetReadDeadline)
	c.heads.init(s.o.Head, s.o.Fields)
	c.mostResets, c.mostPointless = s.o.Resets, s.o.NoopFrames
	// Two of the largest, whatever others hold.
	c.asked = fair.NewShare(s.o.Heads, conn.Facts().Addr, 2*int64(s.o.Head))
	return c
}

func (c *connection) acquireBuffers() {
	if c.engine == nil {
		c.engine = newEngine()
		c.source = reader{source: c.conn, limit: &c.limit, buf: c.room[:]}
	}
	if c.streams == nil {
		c.streams = map[uint32]*stream{}
	}
}

// releaseBuffers gives back what only frames need.
func (c *connection) releaseBuffers() {
	if c.engine != nil {
		readRooms.Put(c.room)
		c.engine = nil
	}
}

// greet exchanges prefaces (RFC 9113 section 3.4).
func (c *connection) greet() error {
	c.acquireBuffers()
	c.mu.Lock()
	// RFC 9113 section 3.4 lets a server speak first, which saves the client a round trip before it may send
	// content.
	c.out = appendSettings(c.buffer(),
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.server.o.Streams)},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.server.o.Head)},
		http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1},
	)
	c.out = appendWindowUpdate(c.out, 0, baseWindow-initialWindow)
	c.recvWindow, c.window = baseWindow, baseWindow
	c.wake()
	c.mu.Unlock()
	// The client's preface has the limit of a request head: a connection that never says anything is given up.
	c.limit.Until(time.Now().Add(c.server.o.Header))
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(&c.source, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}

	frame, err := c.framer.ReadFrame()
	if err != nil {
		return err
	}
	// RFC 9113 section 3.4: the client's first frame must be SETTINGS.
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok || settings.IsAck() {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}

	return c.onSettings(settings)
}

var (
	errIdle    = errors.New("idle for too long")
	errDrained = errors.New("shut down")
)

// serve takes frames until the connection ends or is parked.
func (c *connection) serve() {
	c.acquireBuffers()
	c.mu.Lock()
	c.greeted = true
	// Shutdown may have come while the two greeted each other, when drain could not say anything yet.
	if c.draining {
		c.retire()
	}
	c.mu.Unlock()
	for {
		err := c.serveFrame()
		if err != nil {
			err = c.answerFault(err)
		}

		switch {
		case err == nil:
		case errors.Is(err, errIdle) && c.park():
			return
		default:
			c.end(err)
			return
		}
	}
}

// answerFault answers the faults of one stream on that stream. What it returns ends the connection.
func (c *connection) answerFault(err error) error {
	var odd streamError
	var one http2.StreamError
	switch {
	case errors.As(err, &odd):
		return c.reject(odd)
	case errors.As(err, &one):
		return c.refuse(one)
	}
	return err
}

func (c *connection) serveFrame() error {
	if err := c.await(); err != nil {
		return err
	}

	header, err := c.framer.ReadFrameHeader()
	if err != nil {
		return err
	}
	frame, err := c.framer.ReadFrameForHeader(header)
	if err != nil {
		return c.unreadable(header, err)
	}

	return c.take(frame)
}

// unreadable is what a frame costs that could not be read.
func (c *connection) unreadable(header http2.FrameHeader, err error) error {
	var one http2.StreamError
	if errors.As(err, &one) && header.Type == http2.FrameHeaders {
		// The fields went unread, and with them what later blocks refer to in HPACK's table.
		return http2.ConnectionError(one.Code)
	}
	return err
}

// await waits for the next frame, and limits how long it takes to come whole.
func (c *connection) await() error {
	if c.source.whole() {
		return nil
	}
	if c.block.open {
		return nil // has a limit
	}

	// Only a limit that has passed can turn the connection idle; every other way out of this loop is a frame or the
	// end.
	for quiet := false; len(c.source.buffered()) == 0; {
		c.mu.Lock()
		// Streams may have ended while nothing was read, so whether the connection is idle is decided here again.
		c.limitIdle()
		if !c.idle() && !quiet {
			c.limit.Until(time.Now().Add(c.server.parkAfter))
		}
		c.mu.Unlock()

		fill := c.source.fill
		if quiet {
			fill = c.fillQuietly
		}

		if err := fill(); err != nil {
			if !deadline.Exceeded(err) {
				return err
			}

			c.mu.Lock()
			idle, sealed := c.idle(), c.sealed
			c.mu.Unlock()
			switch {
			case idle && sealed:
				return errDrained
			case idle && c.limit.Expired():
				return errIdle
			}

			// Streams are open on which nothing happens, WebSockets perhaps; or the last has ended just when that was noticed.
			quiet = !idle
		}
	}

	switch {
	case c.source.whole():
	case c.source.data():
		c.limit.Until(time.Now().Add(c.server.o.BodyIdle))
	default:
		c.limit.Until(time.Now().Add(c.server.o.Header))
	}

	return nil
}

// fillQuietly waits for the next frame without what is only needed when frames come.
func (c *connection) fillQuietly() error {
	// Tunnels may be silent for hours. Their connection then holds 64 bytes rather than the framer and its buffer.
	c.releaseBuffers()
	c.mu.Lock()
	c.dismiss()
	c.mu.Unlock()
	first := make([]byte, 64)
	n, err := c.limit.Read(c.conn, first)
	c.acquireBuffers()
	c.source.end = copy(c.room[:], first[:n])
	return err
}

// limitIdle is called with the lock held whenever it has become possible to be idle, or impossible.
func (c *connection) limitIdle() {
	switch {
	case !c.idle():
		c.limit.Until(time.Time{})
	case c.server.o.Park != nil:
		c.limit.Until(time.Now().Add(min(c.server.parkAfter, c.server.o.Idle)))
	default:
		c.limit.Until(time.Now().Add(c.server.o.Idle))
	}
}

// idle is called with the lock held.
func (c *connection) idle() bool { return len(c.streams) == 0 && c.running == 0 }

// park gives the buffers and, by the caller's return, the goroutine back. It reports false when the connection has to
// end. The lock is held until the lot has the connection, so that drain finds it either here or there.
func (c *connection) park() bool {
	idle := c.server.o.Idle - c.server.parkAfter
	if c.server.o.Park == nil || idle <= 0 {
		return false
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	// The flusher still uses the connection. The lot must be the only one who has it.
	for c.flushing {
		c.changed.Wait()
	}

	if c.draining || c.err != nil {
		return false
	}

	c.streams = nil
	c.dismiss()
	c.releaseBuffers()
	c.limit.Clear()
	c.parked = c.server.o.Park.Park(c.conn, idle, c.unpark)
	return c.parked
}

// unpark is called by the lot.
func (c *connection) unpark(expired bool) {
	c.mu.Lock()
	c.parked = false
	c.mu.Unlock()
	if expired {
		c.end(errIdle)
		return
	}
	c.serve()
}

// refuse resets a stream over which the client has made a mistake.
func (c *connection) refuse(one http2.StreamError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// RFC 9113 section 5.1: an idle stream cannot be reset, so the fault is the connection's.
	if one.StreamID > c.lastID {
		return http2.ConnectionError(one.Code)
	}
	// Other codes, such as STREAM_CLOSED, come from frames that cross our own end of the stream, and are nobody's
	// fault.
	if one.Code == http2.ErrCodeProtocol || one.Code == http2.ErrCodeFlowControl {
		c.report(traffic.Malformed)
	}

	c.drop(one.StreamID, one.Code)
	if s := c.streams[one.StreamID]; s != nil {
		c.remove(s, errReset)
	}

	return c.countReset()
}

// streamError is a request that is malformed (RFC 9113 section 8.1.1).
type streamError struct {
	id   uint32
	what string
	head bool // no handler has heard of it
}

func (m streamError) Error() string { return m.what }

// What is wrong with a request beyond its head.
const (
	faultMore       = "there is more content than Content-Length says"
	faultLess       = "there is less content than Content-Length says"
	faultTrailers   = "the trailers are too large, or too many"
	faultSecondHead = "a second head came before the end of the content"
)

// reject answers a malformed request with 400 where the answer has not begun, and resets its stream: a client that sees
// the reset alone may take it for a fault of the connection, and send the request again and again.
func (c *connection) reject(m streamError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reportDetail(traffic.Malformed, m.what)

	// The stream is nil, too, where its handler has returned meanwhile.
	s := c.streams[m.id]
	switch {
	case m.head:
		c.respond(m.id, 400, c.block.Method(), malformed(m.what), c.peerWindow)
	case s != nil && !s.writer.sent && !s.localEnded:
		c.respond(m.id, 400, s.request.Method, malformed(m.what), s.sendWindow)
	}

	if m.head && !c.block.end {
		// The client is still sending. An immediate reset could reach it before the answer.
		c.lingerWithout(m.id, http2.ErrCodeProtocol)
	} else {
		c.drop(m.id, http2.ErrCodeProtocol)
	}

	if s != nil {
		c.remove(s, m)
	}

	c.wake()

	c.awaitRoom()
	return c.countReset()
}

func malformed(what string) string { return "The request is malformed: " + what }

// drop resets a stream. It is called with the lock held.
func (c *connection) drop(id uint32, code http2.ErrCode) {
	remembered := c.server.o.Streams + 1
	// Frames of streams that were reset arrive for a round trip at most, so remembering the latest ones is enough.
	if len(c.dropped) == remembered {
		c.dropped = slices.Delete(c.dropped, 0, remembered/2)
	}
	c.dropped = append(c.dropped, id)
	c.out = appendReset(c.buffer(), id, code)
	c.wake()
}

// end finishes the connection: with a word of why, unless it is the client's fault in a way that it cannot hear.
func (c *connection) end(cause error) {
	code, goodbye := http2.ErrCodeNo, true
	var own http2.ConnectionError
	var far floodError
	switch {
	case errors.As(cause, &far):
		code = http2.ErrCodeEnhanceYourCalm
	case errors.As(cause, &own):
		code = http2.ErrCode(own)
	case errors.Is(cause, http2.ErrFrameTooLarge):
		code = http2.ErrCodeFrameSize
	case errors.Is(cause, errIdle), errors.Is(cause, errDrained), deadline.Exceeded(cause):
	default:
		goodbye = false
	}

	c.mu.Lock()
	// After a shutdown that was announced, nothing that the client does is held against it.
	if c.err == nil && !c.sealed {
		c.blame(cause)
	}

	if c.err == nil && goodbye {
		c.out = appendGoAway(c.buffer(), c.lastID, code, "")
		c.wake()
	}

	// Handlers learn of the end before the flusher is waited for: they may be what it waits for.
	for _, s := range c.streams {
		c.remove(s, errGone)
	}

	if !goodbye {
		c.fail(cause)
	}

	for c.flushing {
		c.changed.Wait()
	}

	goodbye = goodbye && c.err == nil
	c.fail(cause)
	c.mu.Unlock()
	// GOAWAY must be read before the close becomes a reset, so what the client still sends is taken and dropped.
	if goodbye {
		socket.Linger(c.conn, lingerTime, lingerBytes)
	}
	c.conn.Close()
	c.mu.Lock()
	// Handlers may still read from their streams. The window and the buffers go back after the last of them.
	for c.running > 0 {
		c.changed.Wait()
	}
	// Nothing is unread any more, so the window returns to its base.
	more := c.window - baseWindow
	c.window = baseWindow
	c.dismiss()
	c.mu.Unlock()
	if memory := c.server.o.Memory; memory != nil && more > 0 {
		memory.Leave(c.conn.Facts().Addr, more)
	}
	c.asked.Close()
	c.releaseBuffers()
	c.server.open.Remove(c)
}

const (
	lingerBytes = 64 << 20
	lingerTime  = 2 * time.Second
)

// fail is called with the lock held. Whoever waits for the connection stops.
func (c *connection) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	for _, s := range c.streams {
		c.remove(s, errGone)
	}
	c.changed.Broadcast()
}

// drain begins Shutdown for this connection.
func (c *connection) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return
	}

	c.draining = true
	switch {
	case !c.greeted:
		// serve sees the flag when it has greeted the client.
	case !c.parked:
		c.retire()
	case c.server.o.Park.Unpark(c.conn):
		c.parked = false
		// A parked connection has no goroutine, and needs one for its goodbye.
		go c.serve()
	} // else it is about to wake
}

// cut ends the connection below TLS, which would wait for a client that reads nothing. Shutdown has begun, so it is not
// parked.
func (c *connection) cut() {
	if below, ok := c.conn.(interface{ NetConn() net.Conn }); ok {
		below.NetConn().Close()
		return
	}
	c.conn.Close()
}

const (
	noticePeriod = time.Second
	everyStream  = 1<<31 - 1
)

var lastCall = [8]byte{'p', 'a', 'd', 'l', 'o', 'c', 'k'}

// retire announces the end. Streams that are on their way are still taken, until the client has answered our PING (RFC
// 9113 section 6.8). It is called with the lock held.
func (c *connection) retire() {
	// The client answers the PING behind every request that it sent before it saw the GOAWAY, so none of them is
	// lost.
	c.out = appendPing(appendGoAway(c.buffer(), everyStream, http2.ErrCodeNo, ""), false, lastCall)
	c.wake()
	// A client that does not answer the PING does not delay the end.
	time.AfterFunc(noticePeriod, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.seal()
	})
}

// seal refuses streams from now on. It is called with the lock held.
func (c *connection) seal() {
	if c.sealed || c.err != nil {
		return
	}
	c.sealed = true
	if c.idle() {
		// The goroutine that reads wakes, and says goodbye.
		c.limit.Interrupt()
		return
	}
	c.out = appendGoAway(c.buffer(), c.lastID, http2.ErrCodeNo, "")
	c.wake()
}
