package inspect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// follower makes messages of what passes in one direction. It is called with the record's lock held.
type follower interface {
	follow(c *Record, p []byte)
	// end tells what is open when nothing more comes.
	end(c *Record)
}

// isEvents reports whether a response is a stream of events that can be read as it passes.
func isEvents(lines []byte) bool {
	// Looked at in full where it can be one.
	if kind := value(lines, "content-type"); len(kind) < len(eventStream) || !equal(string(kind[:len(eventStream)]), eventStream) {
		return false
	}
	fields := entry(lines).fields()
	return kindOf(fields) == eventStream && coded(fields) == ""
}

const eventStream = "text/event-stream"

// events are server-sent events: blocks of lines that an empty line ends.
type events struct {
	open []byte
	size int64 // of the open one, of which only the beginning may be kept
	line int   // bytes of the line that is open
}

func (e *events) follow(c *Record, p []byte) {
	for _, b := range p {
		if b == '\r' {
			// Line ends may be CR LF too; those of CR alone are not in use.
			continue
		}
		if e.size++; len(e.open) < c.limits.Body {
			before := cap(e.open)
			if e.open = append(e.open, b); cap(e.open) > before {
				c.grow(int64(cap(e.open) - before))
			}
		}
		if b != '\n' {
			e.line++
			continue
		}

		if e.line > 0 {
			e.line = 0
			continue
		}
		e.tell(c, "")
	}
}

func (e *events) tell(c *Record, note string) {
	if text := bytes.TrimRight(e.open, "\n"); len(text) > 0 {
		c.message(Message{From: Server, Kind: eventKind(text) + note, Size: e.size, Data: bytes.Clone(text), Cut: e.size > int64(len(e.open))})
	}
	c.grow(-int64(cap(e.open)))
	e.open, e.size, e.line = nil, 0, 0
}

func (e *events) end(c *Record) { e.tell(c, ", unfinished") }

// eventKind names an event as its stream does.
func eventKind(text []byte) string {
	kind := "comment"
	for line := range bytes.SplitSeq(text, []byte{'\n'}) {
		field, value, _ := strings.Cut(string(line), ":")
		switch {
		case field == "event":
			return strings.TrimPrefix(value, " ")
		case field != "":
			kind = "event"
		}
	}
	return kind
}

// frames are a WebSocket's in one direction (RFC 6455 section 5.2).
type frames struct {
	from    Side
	inflate *inflater // nil: permessage-deflate is not agreed on
	head    []byte
	left    uint64 // of the payload
	at      int    // in it
	keeps   int    // bytes of it
	mask    [4]byte
	masked  bool
	control bool    // the frame is none of a message
	open    Message // of the frame that is open
	packed  *packed // a compressed message that is not whole yet; nil: none
}

// packed is a compressed message, of one frame or of several between which others may come.
type packed struct {
	Message
	last bool // the frame that is open is its last
	lost bool // there is more than is kept for inflating
}

// newFrames are those of both sides, by the head that has accepted the WebSocket.
func newFrames(fields []Field) [2]follower {
	client, server := &frames{from: Client}, &frames{from: Server}
	for _, f := range fields {
		if equal(f.Name, "Sec-WebSocket-Extensions") && strings.HasPrefix(strings.ToLower(strings.TrimSpace(f.Value)), "permessage-deflate") {
			value := strings.ToLower(f.Value)
			client.inflate = &inflater{alone: strings.Contains(value, "client_no_context_takeover")}
			server.inflate = &inflater{alone: strings.Contains(value, "server_no_context_takeover")}
		}
	}
	return [2]follower{client, server}
}

func (f *frames) follow(c *Record, p []byte) {
	for len(p) > 0 {
		if f.left == 0 {
			f.head = append(f.head, p[0])
			p = p[1:]
			if f.begin(c.limits.Body) && f.left == 0 {
				f.finish(c)
			}
			continue
		}

		n := min(uint64(len(p)), f.left)
		f.payload(c, p[:n])
		p = p[n:]
		if f.left == 0 {
			f.finish(c)
		}
	}
}

const (
	final, compressed = 0x80, 0x40
	continuation      = 0
	closing           = 8
)

// begin reports whether a head is whole.
func (f *frames) begin(limit int) bool {
	h := f.head
	if len(h) < 2 {
		return false
	}
	size, length := 2, uint64(h[1]&0x7f)
	switch length {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	at := size
	if f.masked = h[1]&0x80 != 0; f.masked {
		size += 4
	}
	if len(h) < size {
		return false
	}

	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		length = binary.BigEndian.Uint64(h[2:])
	}
	copy(f.mask[:], h[at:size])
	f.left, f.at, f.keeps = length, 0, int(min(length, uint64(limit)))
	f.open = Message{From: f.from, Kind: opcodes[h[0]&15], Size: int64(min(length, 1<<62)), Cut: length > uint64(limit), Part: h[0]&final == 0}

	f.control = h[0]&15 >= closing
	switch opcode := h[0] & 15; {
	case f.inflate == nil || f.control:
	case h[0]&compressed != 0:
		f.packed = &packed{Message: Message{From: f.from, Kind: f.open.Kind, Compressed: true}, last: !f.open.Part}
		f.keeps = 0
	case opcode == continuation && f.packed != nil:
		f.packed.last, f.keeps = !f.open.Part, 0
	}
	f.head = f.head[:0]
	return true
}

// inPacked reports whether the frame that is open belongs to a compressed message.
func (f *frames) inPacked() bool { return f.packed != nil && !f.control }

// opcodes are RFC 6455 section 11.8.
var opcodes = [16]string{
	"continuation", "text", "binary", "reserved 3", "reserved 4", "reserved 5", "reserved 6", "reserved 7",
	"close", "ping", "pong", "reserved 11", "reserved 12", "reserved 13", "reserved 14", "reserved 15",
}

func (f *frames) payload(c *Record, p []byte) {
	into, room := &f.open.Data, f.keeps-len(f.open.Data)
	if f.inPacked() {
		into, room = &f.packed.Data, maxPacked-len(f.packed.Data)
		f.packed.lost = f.packed.lost || len(p) > room
	}

	before := cap(*into)
	for _, b := range p[:max(0, min(len(p), room))] {
		if f.masked {
			b ^= f.mask[f.at&3]
		}
		*into = append(*into, b)
		f.at++
	}
	f.left -= uint64(len(p))
	c.grow(int64(cap(*into) - before))
}

// finish tells of a frame that is whole, or of the message that it is the last of.
func (f *frames) finish(c *Record) {
	m := f.open
	f.open = Message{}
	if !f.inPacked() {
		c.grow(-int64(cap(m.Data)))
		if m.Kind == "close" && len(m.Data) >= 2 {
			m.Kind = fmt.Sprintf("close %d", binary.BigEndian.Uint16(m.Data))
			m.Data = m.Data[2:]
		}
		// What is charged for is its length.
		m.Data = bytes.Clone(m.Data)
		c.message(m)
		return
	}

	f.packed.Size += m.Size
	f.packed.Frames++
	if f.packed.last {
		f.unpack(c)
	}
}

// unpack tells of a compressed message, as it was before it was compressed if that can be found out.
func (f *frames) unpack(c *Record) {
	m := f.packed.Message
	data := m.Data
	var whole int64
	var err error
	if m.Data, whole, err = f.inflate.message(data, f.packed.lost, c.limits.Body, &c.store.inflating); err != nil {
		m.Raw, m.Note = true, err.Error()
		m.Data, m.Cut = bytes.Clone(data[:min(len(data), c.limits.Body)]), m.Size > int64(c.limits.Body)
	} else {
		m.Inflated, m.Cut = whole, whole > int64(len(m.Data))
	}
	f.packed = nil
	c.grow(f.inflate.took() - int64(cap(data)))
	c.message(m)
}

func (f *frames) end(*Record) {}
