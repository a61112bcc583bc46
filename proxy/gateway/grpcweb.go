package gateway

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"padlock/proxy/message"
)

const (
	webType     = "application/grpc-web"
	webTextType = "application/grpc-web-text"
	rpcType     = "application/grpc"
)

// grpcWeb makes gRPC of what browsers can send, and of its answer what they can read: they see no trailers, so these
// become the last frame of the content (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md).
func grpcWeb(next Action) Action {
	return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		r := x.request
		suffix, text, ok := webForm(r.Fields.Value("Content-Type"))
		if !ok || r.Method != "POST" {
			return next.Answer(ctx, x)
		}

		r.Fields.Set("Content-Type", rpcType+suffix)
		r.Fields.Set("Te", "trailers")
		_, accepts, _ := webForm(r.Fields.Value("Accept"))
		r.Fields.Del("Accept")
		if text && r.Body != nil {
			r.Body, r.ContentLength = &webRequest{Body: r.Body}, -1
		}

		response, err := next.Answer(ctx, x)
		if err != nil || response.Tunnel != nil || !response.Fields.GRPC() {
			return response, err
		}
		x.respondForWeb(response, text || accepts)
		return response, nil
	})
}

// webForm reads a type of gRPC-Web: what follows its name, and whether its content is text.
func webForm(kind string) (suffix string, text, ok bool) {
	kind = strings.ToLower(strings.TrimSpace(kind))
	if suffix, ok = strings.CutPrefix(kind, webTextType); ok {
		text = true
	} else if suffix, ok = strings.CutPrefix(kind, webType); !ok {
		return "", false, false
	}
	ok = suffix == "" || suffix[0] == '+' || suffix[0] == ';'
	return suffix, text, ok
}

// respondForWeb changes the answer of a gRPC target.
func (x *Exchange) respondForWeb(response *message.Response, text bool) {
	kind := webType
	if text {
		kind = webTextType
	}
	f := &response.Fields
	f.Set("Content-Type", kind+strings.TrimPrefix(strings.ToLower(f.Value("Content-Type")), rpcType))
	f.Del("Content-Length")
	// Where the head has the status, nothing follows it.
	_, over := f.Get("Grpc-Status")
	response.ContentLength, response.Trailing = -1, false
	response.Body = &webResponse{Body: response.Body, x: x, text: text, bare: over}
}

// webRequest decodes base64, of which each piece may have its own padding.
type webRequest struct {
	message.Body
	raw  [1024]byte
	n    int // of raw, that are not decoded: less than four
	out  []byte
	room [768]byte
	err  error
}

var errBase64 = errors.New("content of grpc-web-text is not base64")

// Read implements io.Reader.
func (b *webRequest) Read(p []byte) (int, error) {
	for len(b.out) == 0 && b.err == nil {
		b.fill()
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	if len(b.out) > 0 || n > 0 && b.err != nil && !errors.Is(b.err, io.EOF) {
		return n, nil
	}
	return n, b.err
}

// fill decodes the next piece.
func (b *webRequest) fill() {
	n, err := b.Body.Read(b.raw[b.n:])
	b.n += n
	out := b.room[:0]
	at := 0
	for ; b.n-at >= 4; at += 4 {
		var three [3]byte
		size, bad := base64.StdEncoding.Strict().Decode(three[:], b.raw[at:at+4])
		if bad != nil {
			b.err = errBase64
			return
		}
		out = append(out, three[:size]...)
	}
	b.n = copy(b.raw[:], b.raw[at:b.n])
	b.out, b.err = out, err
	if errors.Is(err, io.EOF) && b.n > 0 {
		b.err = errBase64
	}
}

// Buffered implements message.Body: of what needs no waiting, how much it is decoded is not known.
func (b *webRequest) Buffered() int { return len(b.out) }

// webResponse puts the trailers behind the content, and encodes all of it for those who want text.
type webResponse struct {
	message.Body
	x     *Exchange
	text  bool
	bare  bool // there are no trailers
	out   []byte
	room  [3072]byte
	ended bool
}

// Read implements io.Reader.
func (b *webResponse) Read(p []byte) (int, error) {
	if len(b.out) == 0 && !b.ended {
		if !b.text && len(p) > 0 {
			return b.readBinary(p)
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	if b.ended && len(b.out) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// readBinary reads content as it is, to where it is sent from.
func (b *webResponse) readBinary(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	b.finish()
	if n == 0 {
		return b.Read(p)
	}
	return n, nil
}

// fill encodes the next piece, with its own padding: no byte waits for those that follow.
func (b *webResponse) fill() error {
	n, err := b.Body.Read(b.room[:])
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	b.out = base64.StdEncoding.AppendEncode(b.out[:0], b.room[:n])
	if err != nil {
		b.finish()
	}
	return nil
}

// finish appends the frame of the trailers.
func (b *webResponse) finish() {
	b.ended = true
	if b.bare {
		return
	}
	frame := []byte{0x80, 0, 0, 0, 0}
	for _, f := range b.x.withoutOurs(b.Body.Trailers()) {
		frame = append(frame, strings.ToLower(f.Name)+": "+f.Value+"\r\n"...)
	}
	binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-5))
	if b.text {
		b.out = base64.StdEncoding.AppendEncode(b.out, frame)
	} else {
		b.out = append(b.out, frame...)
	}
}

// Trailers implements message.Body: they are in the content.
func (b *webResponse) Trailers() message.Fields { return nil }

// Buffered implements message.Body.
func (b *webResponse) Buffered() int {
	if len(b.out) > 0 || b.ended {
		return len(b.out)
	}
	return b.Body.Buffered()
}
