package http3

import (
	"errors"
	"io"

	"github.com/quic-go/quic-go/quicvarint"

	"padlock/proxy/deadline"
)

// Frames (RFC 9114 section 7.2, RFC 9218 section 7).
const (
	frameData           = 0x0
	frameHeaders        = 0x1
	frameCancelPush     = 0x3
	frameSettings       = 0x4
	framePushPromise    = 0x5
	frameGoAway         = 0x7
	frameMaxPushID      = 0xd
	framePriorityUpdate = 0xf0700
	framePriorityOfPush = 0xf0701
)

// known reports whether a frame means something to HTTP/3, or must not come at all as it means something to HTTP/2.
func known(kind uint64) bool {
	return kind <= 0x9 || kind == frameMaxPushID || kind == framePriorityUpdate || kind == framePriorityOfPush
}

// code says why a stream or a connection is ended (RFC 9114 section 8.1, RFC 9204 section 6).
type code uint64

const (
	codeNone               code = 0x100
	codeInternal           code = 0x102
	codeStreamCreation     code = 0x103
	codeClosedCritical     code = 0x104
	codeFrameUnexpected    code = 0x105
	codeFrame              code = 0x106
	codeExcessiveLoad      code = 0x107
	codeID                 code = 0x108
	codeSettings           code = 0x109
	codeMissingSettings    code = 0x10a
	codeRejected           code = 0x10b
	codeCancelled          code = 0x10c
	codeIncomplete         code = 0x10d
	codeMessage            code = 0x10e
	codeVersionFallback    code = 0x110
	codeDecompression      code = 0x200
	codeQPACKEncoderStream code = 0x201
	codeQPACKDecoderStream code = 0x202
)

// fatal ends a connection whose client has broken the rules.
type fatal code

func (f fatal) Error() string { return "the client has broken the rules of HTTP/3" }

// reader takes frames from a stream. One goroutine uses it.
type reader struct {
	source   io.Reader
	buf      []byte
	from, to int    // what of buf was not yet taken
	err      error  // that came with the last bytes
	left     uint64 // of the frame that is being read
}

// fill takes more bytes, when there are none left.
func (r *reader) fill() error {
	if r.err != nil {
		return r.err
	}
	n, err := r.source.Read(r.buf)
	r.from, r.to = 0, n
	return r.note(n, err)
}

// note keeps an error for when the bytes that came with it are used up. When time is over, more may yet be given.
func (r *reader) note(n int, err error) error {
	if err != nil && !deadline.Exceeded(err) {
		r.err = err
	}
	if n > 0 {
		return nil
	}
	return err
}

// varint reads an integer (RFC 9000 section 16). io.EOF tells that there was nothing of it.
func (r *reader) varint() (uint64, error) {
	var number [8]byte
	size := 1
	for i := 0; i < size; i++ {
		if r.from == r.to {
			if err := r.fill(); err != nil {
				return 0, cutShort(err, i > 0)
			}
		}

		if number[i] = r.buf[r.from]; i == 0 {
			size = 1 << (number[0] >> 6)
		}
		r.from++
	}

	n, _, err := quicvarint.Parse(number[:size])
	return n, err
}

// cutShort tells an end in the middle of something from one between frames.
func cutShort(err error, inside bool) error {
	if inside && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frame begins the next frame. io.EOF tells that there is none.
func (r *reader) frame() (kind uint64, err error) {
	if kind, err = r.varint(); err != nil {
		return 0, err
	}
	r.left, err = r.varint()
	return kind, cutShort(err, true)
}

// payload reads of the frame that was begun, at most what is left of it.
func (r *reader) payload(p []byte) (n int, err error) {
	if p = p[:min(uint64(len(p)), r.left)]; len(p) == 0 {
		return 0, nil
	}

	if r.from == r.to && len(p) < len(r.buf) {
		if err := r.fill(); err != nil {
			return 0, cutShort(err, true)
		}
	}

	if r.from < r.to {
		n = copy(p, r.buf[r.from:r.to])
		r.from += n
	} else {
		if r.err != nil {
			return 0, cutShort(r.err, true)
		}
		n, err = r.source.Read(p)
		err = cutShort(r.note(n, err), true)
	}

	r.left -= uint64(n)
	return n, err
}

// buffered is how much of the frame is there without waiting.
func (r *reader) buffered() int { return int(min(uint64(r.to-r.from), r.left)) }

// whole reads a frame of at most limit bytes; what is returned is valid until the next read.
func (r *reader) whole(limit uint64) ([]byte, error) {
	if r.left > limit {
		return nil, fatal(codeFrame)
	}

	if n := int(r.left); n <= r.to-r.from {
		p := r.buf[r.from : r.from+n]
		r.from, r.left = r.from+n, 0
		return p, nil
	}

	room := make([]byte, 0, min(r.left, 4<<10))
	// Memory is taken only as the bytes arrive: the announced length proves nothing.
	for r.left > 0 {
		if len(room) == cap(room) {
			room = append(room, 0)[:len(room)]
		}
		n, err := r.payload(room[len(room):cap(room)])
		if room = room[:len(room)+n]; err != nil {
			return nil, err
		}
	}

	return room, nil
}

// ended reports whether the stream is known to have nothing more.
func (r *reader) ended() bool { return r.from == r.to && errors.Is(r.err, io.EOF) }

// appendFrame begins a frame of n bytes.
func appendFrame(b []byte, kind uint64, n int) []byte {
	return quicvarint.Append(quicvarint.Append(b, kind), uint64(n))
}

// Settings that we announce (RFC 9114 section 7.2.4.1, RFC 9220 section 3). QPACK goes without a dynamic table.
const (
	settingMaxFieldSectionSize   = 0x6
	settingEnableConnectProtocol = 0x8
)

// opening is what our control stream begins with.
func opening(head int) []byte {
	settings := quicvarint.Append([]byte{settingMaxFieldSectionSize}, uint64(head))
	settings = append(settings, settingEnableConnectProtocol, 1)
	return append(appendFrame([]byte{uniControl}, frameSettings, len(settings)), settings...)
}

// checkSettings looks whether what a client announces is well formed. None of it matters to us.
func checkSettings(b []byte) error {
	seen := map[uint64]bool{}
	for len(b) > 0 {
		id, n, err := quicvarint.Parse(b)
		if err != nil {
			return fatal(codeFrame)
		}
		value, m, err := quicvarint.Parse(b[n:])
		if err != nil {
			return fatal(codeFrame)
		}

		switch b = b[n+m:]; {
		case seen[id], id == 0, 2 <= id && id <= 5:
			// RFC 9114 section 11.2.2 reserves the numbers of HTTP/2's settings.
			return fatal(codeSettings)
		case id == settingEnableConnectProtocol && value > 1:
			return fatal(codeSettings)
		}

		seen[id] = true
	}
	return nil
}
