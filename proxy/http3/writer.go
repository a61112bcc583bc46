package http3

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"

	"padlock/internal/pool"
	"padlock/proxy/deadline"
	"padlock/proxy/message"
	"padlock/traffic"
)

// writer sends one response. One goroutine calls it, but for proceed, which the reader of the request's body calls.
type writer struct {
	s      *stream
	fields *fieldWriter // of the next list
	out    []byte       // frames that were not yet sent
	room   *writeRoom
	n      int // content in room that was not yet sent

	outgoing  message.Outgoing
	headed    bool
	aborted   bool
	tunnelled bool
	err       error
	sent      int64 // bytes that the client has made room for
	waited    time.Duration
	code      code // that an aborted response ends with; 0: H3_INTERNAL_ERROR
	complete  bool // nothing follows what was written
	over      bool // the client has been told so
}

// writeRoom has content, with room before it for what goes out with it.
type writeRoom [before + 32<<10]byte

const before = 1 << 10

var writeRooms = pool.Of(func(r *writeRoom) []byte { return r[:] })

// fieldWriter encodes a list of fields (RFC 9204).
type fieldWriter struct {
	encoder *qpack.Encoder
	encoded []byte
}

func (f *fieldWriter) Write(p []byte) (int, error) {
	f.encoded = append(f.encoded, p...)
	return len(p), nil
}

func newFieldWriter() *fieldWriter {
	f := &fieldWriter{encoded: make([]byte, 0, 256)}
	f.encoder = qpack.NewEncoder(f)
	return f
}

// free gives back what only a response needs.
func (w *writer) free() {
	if w.room != nil {
		writeRooms.Put(w.room)
		w.room = nil
	}
}

// status begins a list of fields.
func (w *writer) status(status int) { w.field(":status", strconv.Itoa(status)) }

// field adds to a list.
func (w *writer) field(name, value string) {
	if w.fields == nil {
		w.fields = newFieldWriter()
	}
	_ = w.fields.encoder.WriteField(qpack.HeaderField{Name: strings.ToLower(name), Value: value})
}

// add adds those fields that HTTP/3 may have.
func (w *writer) add(fields message.Fields) {
	for name, value := range fields.Sent {
		w.field(name, value)
	}
}

// close ends a list, and makes a frame of it.
func (w *writer) close() {
	f := w.fields
	_ = f.encoder.Close()
	w.out = append(appendFrame(w.out, frameHeaders, len(f.encoded)), f.encoded...)
	f.encoded = f.encoded[:0]
}

// proceed sends 100 Continue, unless the response has begun: then the client knows already.
func (w *writer) proceed() error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.final {
		return nil
	}
	_, err := w.s.q.Write(proceed)
	return err
}

// proceed is a head with nothing but 100, which is entry 63 of the static table (RFC 9204 appendix A).
var proceed = []byte{frameHeaders, 4, 0, 0, 0xff, 0}

// Interim implements message.Writer.
func (w *writer) Interim(status int, fields message.Fields) error {
	if err := fields.Writable(); err != nil {
		return err
	}
	w.status(status)
	w.add(fields)
	w.close()
	return w.send()
}

// Head implements message.Writer; what it writes goes out with the first content, or when the response ends.
func (w *writer) Head(status int, fields message.Fields, length int64) error {
	if err := fields.Writable(); err != nil {
		return err
	}

	w.begin()
	w.headed = true
	w.status(status)
	w.add(fields)
	if _, dated := fields.Get("Date"); !dated {
		w.field("date", message.Date())
	}
	length = w.outgoing.Begin(w.s.request.Method, status, fields, length)
	if length >= 0 {
		w.field("content-length", strconv.FormatInt(length, 10))
	}

	w.close()
	return w.err
}

// begin notes that the final response has begun.
func (w *writer) begin() {
	w.s.mu.Lock()
	w.s.final = true
	w.s.mu.Unlock()
	if w.s.request.Body != nil {
		// From now on the two sides may be talking, at whatever pace.
		w.s.limit(time.Time{})
	}
}

// Room implements message.Writer.
func (w *writer) Room() []byte {
	if w.room == nil {
		w.room = writeRooms.Get()
	}
	if w.n > (len(w.room)-before)*7/8 {
		// The Write that follows returns the error.
		_ = w.send()
	}
	return w.room[before+w.n:]
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

// Flush implements message.Writer. A response that is complete ends, whatever the client still has to say (RFC 9114
// section 4.1).
func (w *writer) Flush() error {
	if err := w.send(); err != nil || !w.complete || w.aborted || w.over {
		return err
	}
	// The client has gone.
	if w.over = w.s.release(); !w.over {
		return errGone
	}
	return w.s.q.Close()
}

// Trailers implements message.Writer.
func (w *writer) Trailers(fields message.Fields) {
	if !w.outgoing.Whole() || w.send() != nil {
		// The content is not complete, so the stream is reset and not ended.
		return
	}

	w.complete = true
	if w.outgoing.Bodiless() || len(fields) == 0 {
		return
	}

	if fields.Writable() != nil {
		w.aborted = true
		return
	}

	w.add(fields)
	if w.fields != nil && len(w.fields.encoded) > 0 {
		w.close()
	}
}

// Abort implements message.Writer.
func (w *writer) Abort() { w.aborted = true }

// Fallback implements message.Writer (RFC 9114 section 8.1).
func (w *writer) Fallback() { w.aborted, w.code = true, codeVersionFallback }

// Reset implements message.Writer. Codes about the target's connection, or about what padlock has sent there, are none
// of the client's.
func (w *writer) Reset(reset uint32) {
	w.Abort()
	switch {
	case reset == resetCancel:
		w.code = codeCancelled
	case reset == resetCalm:
		w.code = codeExcessiveLoad
	case reset == resetRefused && !w.headed:
		w.code = codeRejected
	}
}

// Codes of HTTP/2 (RFC 9113 section 7) that HTTP/3 has as well.
const (
	resetRefused = 0x7
	resetCancel  = 0x8
	resetCalm    = 0xb
)

// end completes the response. It reports whether it is whole.
func (w *writer) end() bool {
	if w.tunnelled {
		return w.err == nil
	}
	if w.aborted || w.err != nil || !w.headed || !w.outgoing.Whole() {
		return false
	}
	return w.send() == nil
}

// send sends what there is, in one piece if it can.
func (w *writer) send() error {
	if w.n > 0 {
		// Large fields do not fit in front of the content, and leave first.
		if len(w.out) > before-frameHead && w.write(w.out) == nil {
			w.out = w.out[:0]
		}
		if w.err == nil {
			w.out = appendFrame(w.out, frameData, w.n)
			begin := before - len(w.out)
			copy(w.room[begin:], w.out)
			_ = w.write(w.room[begin : before+w.n])
		}
	} else {
		_ = w.write(w.out)
	}

	w.out, w.n = w.out[:0], 0
	return w.err
}

const frameHead = 1 + 4 // a type, and a length below 2^30

// write sends bytes as long as the client takes them at the rate that it has to bring content at.
func (w *writer) write(p []byte) error {
	s := w.s
	o := &s.c.server.o
	for len(p) > 0 && w.err == nil {
		began := time.Now()
		_ = s.q.SetWriteDeadline(began.Add(deadline.Patience(o.BodyIdle, o.Rate, w.sent, w.waited)))
		// Write returns when QUIC has taken the bytes, which depends on the client's window: this is where a client
		// that does not read is noticed.
		n, err := s.q.Write(p)
		if n == 0 && deadline.Exceeded(err) && o.Pause != nil {
			n, err = w.pause(p, began, err)
		}

		w.waited += time.Since(began)
		w.sent += int64(n)
		p = p[n:]

		switch {
		case err == nil || deadline.Exceeded(err) && n > 0:
		case deadline.Exceeded(err):
			s.c.report(traffic.SlowReader)
			w.err = err
		default:
			w.err = err
		}
	}

	return w.err
}

// pause goes on with a write that has waited in vain since it began, where the client may pause.
func (w *writer) pause(p []byte, began time.Time, err error) (int, error) {
	o := &w.s.c.server.o
	resume, ok := o.Pause(w.s.c.facts.Addr)
	if !ok {
		return 0, err
	}
	defer resume()
	// The longer limit starts at the beginning of the write, so that pausing twice gains nothing.
	_ = w.s.q.SetWriteDeadline(began.Add(deadline.Patience(o.Send, o.Rate, w.sent, w.waited)))
	return w.s.q.Write(p)
}

// Tunnel implements message.Writer: the response to an extended CONNECT is 200 (RFC 9220 section 3).
func (w *writer) Tunnel(fields message.Fields) (message.Tunnel, error) {
	s := w.s
	if err := message.CheckAccept(&s.request, fields); err != nil {
		return nil, err
	}
	if err := fields.Writable(); err != nil {
		return nil, err
	}

	w.begin()
	w.headed, w.tunnelled = true, true
	w.outgoing.Any()
	w.status(http.StatusOK)
	for name, value := range fields.SentExtended {
		w.field(name, value)
	}
	w.close()
	if err := w.send(); err != nil {
		return nil, err
	}

	s.shrink()
	// The context of QUIC's stream ends as soon as we have said everything, and the client may have more to say.
	s.release()
	return (*tunnel)(s), nil
}

// tunnel is the client's side of a WebSocket.
type tunnel stream

func (t *tunnel) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return (*stream)(t).read(p)
}

func (t *tunnel) Write(p []byte) (int, error) {
	n, err := t.writer.Write(p)
	if err == nil {
		err = t.writer.Flush()
	}
	// The next content may be long in coming, and needs no buffer meanwhile.
	t.writer.free()
	return n, err
}

// Where implements message.Moving.
func (t *tunnel) Where() *message.Conn { return t.c.each() }

// Until implements message.Tunnel.
func (t *tunnel) Until(at time.Time) { _ = t.q.SetReadDeadline(at) }

// CloseWrite implements message.Tunnel.
func (t *tunnel) CloseWrite() error { return t.q.Close() }

// Close implements message.Tunnel: it ends both directions.
func (t *tunnel) Close() error {
	t.q.CancelRead(quic.StreamErrorCode(codeNone))
	// A deadline in the past ends a Write that waits for the client.
	_ = t.q.SetWriteDeadline(time.Unix(1, 0))
	return t.q.Close()
}
