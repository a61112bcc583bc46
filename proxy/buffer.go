package proxy

import (
	"errors"
	"io"

	"padlock/internal/pool"
	"padlock/proxy/message"
)

// bufferedBody is a request's content whose beginning was read before a target was asked.
type bufferedBody struct {
	message.Body
	data []byte
	at   int
	err  error // that followed data; nil: there is more
}

// Read implements io.Reader.
func (b *bufferedBody) Read(p []byte) (int, error) {
	if b.at < len(b.data) {
		n := copy(p, b.data[b.at:])
		b.at += n
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.Body.Read(p)
}

// Buffered implements message.Body. A content that is whole is not asked: its connection looks for the next request already.
func (b *bufferedBody) Buffered() int {
	if b.err != nil {
		return len(b.data) - b.at
	}
	return len(b.data) - b.at + b.Body.Buffered()
}

// bufferRequest reads a request's content, up to a limit, so that a slow client does not keep a target waiting. It returns what kept it
// from being read.
func (x *exchange) bufferRequest(limit int64) error {
	r := x.request
	if r.Body == nil || r.Upgrade != "" {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, limit))
	body := &bufferedBody{Body: r.Body, data: data}
	switch {
	case err != nil:
		return &message.BodyError{Err: err}
	case int64(len(data)) < limit:
		body.err = io.EOF
		if len(r.Declared) == 0 { // trailers need chunks
			r.ContentLength = int64(len(data))
		}
	}
	r.Body = body
	return nil
}

// responseBuffers grow as responses need.
var responseBuffers = pool.Of(func(b *[]byte) []byte { return (*b)[:cap(*b)] })

const maxKept = 1 << 20 // of a buffer that is used again

// bufferResponse reads a response, up to a limit, so that a slow client does not keep a target's connection. What is returned is called
// when nothing more is read of it.
func bufferResponse(response *message.Response, limit int64) (release func()) {
	if response.ContentLength > limit {
		return func() {}
	}
	room := responseBuffers.Get()
	data := (*room)[:0]
	body := response.Body
	var err error
	for int64(len(data)) < limit && err == nil {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		var n int
		n, err = body.Read(data[len(data):min(cap(data), int(limit))])
		data = data[:len(data)+n]
	}
	whole := &bufferedBody{Body: body, data: data, err: err}
	response.Body = whole
	if errors.Is(err, io.EOF) {
		_ = body.Close() // the target's connection serves others from now on
		response.Body = &keptBody{whole, body.Trailers()}
	}
	return func() {
		whole.data = nil
		if cap(data) <= maxKept {
			*room = data
			responseBuffers.Put(room)
		}
	}
}

// keptBody is a response's content that was read to its end; the target has nothing to do with it any more.
type keptBody struct {
	*bufferedBody
	trailers message.Fields
}

// Trailers implements message.Body.
func (b *keptBody) Trailers() message.Fields { return b.trailers }

// Received implements message.Body.
func (b *keptBody) Received() int64 { return int64(b.at) }

// Close implements message.Body.
func (b *keptBody) Close() error { return nil }
