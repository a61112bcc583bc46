package http3

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"padlock/proxy/deadline"
	"padlock/proxy/message"
)

// body streams a request's content.
type body struct {
	server  *Server
	hr      *http.Request
	control *http.ResponseController
	first   []byte // was read to see whether there is content
	ended   bool
	ask     func() error // sends 100 Continue
	waited  time.Duration

	answered atomic.Bool // the response has begun: the two may be talking, at whatever pace
	received atomic.Int64
}

func (b *body) init(s *Server, hr *http.Request, control *http.ResponseController) {
	b.server, b.hr, b.control = s, hr, control
}

// present reports whether a request has content. HTTP/3 says so by the end of the stream, which comes with the head where there is none;
// only for methods that hardly ever have content it is waited for.
func (b *body) present(hr *http.Request) (bool, error) {
	if _, ok := hr.Header["Content-Length"]; ok {
		return hr.ContentLength > 0, nil
	}
	switch hr.Method {
	case "GET", "HEAD", "DELETE", "OPTIONS", "TRACE":
	default:
		return true, nil
	}
	_ = b.control.SetReadDeadline(time.Now().Add(b.server.o.Header))
	defer func() { _ = b.control.SetReadDeadline(time.Time{}) }()
	one := make([]byte, 1)
	n, err := hr.Body.Read(one)
	b.first, b.ended = one[:n], errors.Is(err, io.EOF)
	if n == 0 && b.ended {
		return false, nil
	}
	if b.ended {
		err = nil
	}
	return true, err
}

// Read implements io.Reader. io.EOF comes only when the content is whole.
func (b *body) Read(p []byte) (int, error) {
	if b.ask != nil {
		if err := b.ask(); err != nil {
			return 0, err
		}
		b.ask = nil
	}
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		b.received.Add(int64(n))
		return n, nil
	}
	if b.ended {
		return 0, io.EOF
	}
	limit := time.Time{}
	began := time.Now()
	if !b.answered.Load() {
		o := &b.server.o
		limit = began.Add(deadline.Patience(o.Stall, o.Rate, b.received.Load(), b.waited))
	}
	_ = b.control.SetReadDeadline(limit)
	n, err := b.hr.Body.Read(p)
	b.waited += time.Since(began)
	b.received.Add(int64(n))
	b.ended = errors.Is(err, io.EOF)
	return n, err
}

// Trailers implements message.Body.
func (b *body) Trailers() (fields message.Fields) {
	for name, values := range b.hr.Trailer {
		if !message.Token(name) || message.ForbiddenTrailer(name) {
			continue
		}
		for _, value := range values {
			if message.FieldValue(value) {
				fields.Add(name, value)
			}
		}
	}
	return fields
}

// Buffered implements message.Body; quic-go does not tell.
func (b *body) Buffered() int { return len(b.first) }

// Received implements message.Body.
func (b *body) Received() int64 { return b.received.Load() }

// Close implements message.Body.
func (b *body) Close() error { return b.control.SetReadDeadline(time.Unix(1, 0)) }
