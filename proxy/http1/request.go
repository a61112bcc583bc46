package http1

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"padlock/proxy/message"
)

// ask sends the request, as far as that needs no waiting for the client, and reads the first bytes of the answer if
// there is no more to send.
func (b *backend) ask(r *message.Request) error {
	// The whole request fits into one write, and so into one visit to the poller together with its answer.
	if r.Body == nil || b.whole || r.Body.Buffered() == int(r.ContentLength) && len(b.out)+int(r.ContentLength) <= responseBuffer {
		b.limit.Until(time.Now().Add(b.transport.o.ResponseHeader))
		return b.exchange(r)
	}

	if b.stale() {
		return errStale
	}

	// From here on the backend may act on what it received.
	b.asked = true
	b.request = r.Body
	b.last.Store(false)

	// Content that has begun to come goes out with the head: if it is malformed, the backend never hears of the request.
	if !r.Expect && r.Body.Buffered() > 0 {
		b.send(r)
		return nil
	}

	// With Expect, the head goes out alone: the backend may refuse before any content is sent.
	_, err := b.conn.Write(b.out)
	b.written()
	if err == nil && !r.Expect {
		b.send(r)
	}

	return err
}

// appendContent puts content that is at hand behind the head.
func (b *backend) appendContent(r *message.Request) error {
	if r.Body == nil || b.whole {
		return nil
	}
	// Set before reading: even a failed read may have taken bytes that cannot be had again.
	b.consumed = true
	head := len(b.out)
	b.out = append(b.out, make([]byte, r.ContentLength)...)
	_, err := io.ReadFull(r.Body, b.out[head:])
	b.whole = err == nil
	return err
}

// send streams the content to the backend while the answer is waited for: it may come early.
func (b *backend) send(r *message.Request) {
	// Set before the goroutine starts, as the caller may look at it at any time.
	b.consumed = true
	b.sending.Store(true)
	b.sender.Go(func() {
		defer b.sending.Store(false)
		wait := b.transport.o.ResponseHeader
		if b.stream(r) != nil {
			// The target may have answered although it did not take all of the content.
			wait = brokenSender
		}

		// The time for an answer starts when the request is complete, unless the answer has come already.
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.headed {
			b.limit.Until(time.Now().Add(wait))
		}
	})
}

// brokenSender is how long an answer may take when the request cannot be sent whole.
const brokenSender = time.Second

// stream sends the content, the first of it behind the head if that is still to be sent.
func (b *backend) stream(r *message.Request) error {
	buffer := writeBuffers.Get()
	defer writeBuffers.Put(buffer)
	chunked := r.ContentLength < 0
	for {
		head := len(b.out)
		// A large head leaves too little room for content behind it.
		if head > writeBuffer/2 {
			if err := b.write(b.out); err != nil {
				return err
			}
			b.written()
			head = 0
		}

		// The content is read to where it will be sent from, with room in front for the head and the chunk's size.
		start := head + chunkHead
		n, err := r.Body.Read(buffer[start : writeBuffer-2])
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return b.refuse(err)
		}

		end := start + n
		if chunked && n > 0 {
			start, end = frameChunk(buffer[:], start, n)
		}

		start -= copy(buffer[start-head:], b.out[:head])
		b.written()
		out := buffer[start:end]
		if last {
			// Stored before the write: the answer may come, and the connection be judged, before the write returns.
			b.last.Store(true)
			if chunked {
				trailers := r.Body.Trailers()
				if err := trailers.Writable(); err != nil {
					return b.refuse(err)
				}
				out = append(appendFields(append(out, "0\r\n"...), trailers), "\r\n"...)
			}
		}

		if err := b.write(out); err != nil {
			return err
		}
		if last {
			return b.conn.SetWriteDeadline(time.Time{})
		}
	}
}

// refuse ends a request whose content cannot be sent whole. The backend must not take what it got for that.
func (b *backend) refuse(err error) error {
	b.mu.Lock()
	b.refused = err
	b.mu.Unlock()
	// Only the end of the connection shows a backend that reads chunks or a length that the request is incomplete.
	b.tcp.Close()
	return err
}

func (b *backend) write(p []byte) error {
	_ = b.conn.SetWriteDeadline(time.Now().Add(b.transport.o.ResponseHeader))
	_, err := b.conn.Write(p)
	return err
}

// frameChunk puts a chunk's size before the n bytes at start, and CRLF behind. It returns where the whole begins and
// ends.
func frameChunk(buffer []byte, start, n int) (from, to int) {
	var size [chunkHead]byte
	line := append(strconv.AppendUint(size[:0], uint64(n), 16), "\r\n"...)
	from = start - len(line)
	copy(buffer[from:], line)
	to = start + n + copy(buffer[start+n:], "\r\n")
	return from, to
}

// appendRequest writes the head of a request that is writable, the last on its connection or not. How the content is
// framed is ours to say, whatever the client said.
func appendRequest(b []byte, r *message.Request, last bool) []byte {
	b = append(append(append(append(b, r.Method...), ' '), r.Target...), " HTTP/1.1\r\n"...)
	b = appendField(b, "Host", r.Host)
	// Names that came over HTTP/2 and HTTP/3 are lower case, which some small servers do not recognize.
	put, te := appendField, false
	if !strings.HasPrefix(r.Proto, "HTTP/1.") {
		put = appendCustomary
	}

	for _, f := range r.Fields {
		// The two describe how the client framed the content. Passing them on beside our own would allow request
		// smuggling.
		if message.Is(f.Name, "Content-Length") || message.Is(f.Name, "Transfer-Encoding") {
			continue
		}
		te = te || message.Is(f.Name, "TE")
		b = put(b, f.Name, f.Value)
	}

	b = appendFraming(b, r)
	if r.Expect && r.Body != nil {
		b = append(b, "Expect: 100-continue\r\n"...)
	}

	// RFC 9110 section 10.1.4: a sender of TE has to name it in Connection as well.
	switch {
	case r.Upgrade != "":
		b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), r.Upgrade...), "\r\n"...)
	case te && last:
		b = append(b, "Connection: TE, close\r\n"...)
	case te:
		b = append(b, "Connection: TE\r\n"...)
	case last:
		b = append(b, "Connection: close\r\n"...)
	}

	return append(b, "\r\n"...)
}

// appendFraming writes how the content of a request ends.
func appendFraming(b []byte, r *message.Request) []byte {
	switch {
	case r.Body != nil && r.ContentLength < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		for i, name := range r.Declared {
			if i == 0 {
				b = append(b, "Trailer: "...)
			} else {
				b = append(b, ", "...)
			}
			b = append(b, name...)
		}

		if len(r.Declared) > 0 {
			b = append(b, "\r\n"...)
		}
	// RFC 9110 section 8.6: methods that expect content announce its absence, and some servers answer 411
	// otherwise.
	case r.Body != nil || r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH":
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), r.ContentLength, 10), "\r\n"...)
	}

	return b
}
