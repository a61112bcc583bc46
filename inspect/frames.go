package inspect

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// follower makes messages of what passes in one direction.
type follower interface {
	follow(c *Record, from Side, p []byte)
}

// isEvents reports whether a response is a stream of events that can be read as it passes.
func isEvents(fields []Field) bool {
	return kindOf(fields) == "text/event-stream" && Value(fields, "Content-Encoding") == ""
}

// events are server-sent events: blocks of lines that an empty line ends.
type events struct {
	open []byte
	size int64 // of the open one, of which only the beginning may be kept
	line int   // bytes of the line that is open
}

func (e *events) follow(c *Record, from Side, p []byte) {
	for _, b := range p {
		if b == '\r' {
			// Line ends may be CR LF too; those of CR alone are not in use.
			continue
		}
		if e.size++; len(e.open) < c.limits.Body {
			e.open = append(e.open, b)
		}
		if b != '\n' {
			e.line++
			continue
		}

		if e.line > 0 {
			e.line = 0
			continue
		}
		text := bytes.TrimRight(e.open, "\n")
		if len(text) > 0 {
			c.message(Message{From: from, Kind: eventKind(text), Size: e.size, Data: text, Cut: e.size > int64(len(e.open))})
		}
		e.open, e.size = nil, 0
	}
}

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

// frames are a WebSocket's (RFC 6455 section 5.2).
type frames struct {
	deflate bool // permessage-deflate is agreed on (RFC 7692)
	head    []byte
	left    uint64 // of the payload
	at      uint64 // in it
	keeps   int
	mask    [4]byte
	masked  bool
	open    Message
}

func newFrames(fields []Field) *frames {
	return &frames{deflate: strings.Contains(strings.ToLower(Value(fields, "Sec-WebSocket-Extensions")), "permessage-deflate")}
}

func (f *frames) follow(c *Record, from Side, p []byte) {
	for len(p) > 0 {
		if f.left == 0 {
			f.head = append(f.head, p[0])
			p = p[1:]
			if !f.begin(from, c.limits.Body) || f.left > 0 {
				continue
			}
			f.end(c)
			continue
		}

		n := min(uint64(len(p)), f.left)
		f.payload(p[:n])
		p = p[n:]
		if f.left == 0 {
			f.end(c)
		}
	}
}

// begin reports whether a head is whole.
func (f *frames) begin(from Side, limit int) bool {
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
	f.open = Message{
		From: from, Kind: opcodes[h[0]&15], Size: int64(length), Cut: length > uint64(limit), Part: h[0]&0x80 == 0,
		Compressed: f.deflate && h[0]&0x40 != 0,
	}
	f.head = f.head[:0]
	return true
}

// opcodes are RFC 6455 section 11.8.
var opcodes = [16]string{
	"continuation", "text", "binary", "reserved 3", "reserved 4", "reserved 5", "reserved 6", "reserved 7",
	"close", "ping", "pong", "reserved 11", "reserved 12", "reserved 13", "reserved 14", "reserved 15",
}

func (f *frames) payload(p []byte) {
	for _, b := range p[:min(len(p), f.keeps-len(f.open.Data))] {
		if f.masked {
			b ^= f.mask[len(f.open.Data)&3]
		}
		f.open.Data = append(f.open.Data, b)
	}
	f.left -= uint64(len(p))
}

func (f *frames) end(c *Record) {
	c.message(f.open)
	f.open = Message{}
}
