package http1

import (
	"bytes"
	"errors"
	"io"

	"padlock/proxy/message"
)

var (
	errChunk       = errors.New("malformed chunk")
	errTrailerSize = errors.New("the trailers are too large")
)

// content is what follows a head, as the head framed it (RFC 9112 section 6).
type content struct {
	r         *reader
	left      int64 // of the content, or of the current chunk
	chunked   bool
	unbounded bool // ends with the connection
	begun     bool // a chunk was read
	done      bool // all was read, trailers too
	limit     int  // of the trailers
	padded    bool // white space may follow the size of a chunk, as some servers send it
	trailers  message.Fields
}

// read returns content. After it, done tells whether that was all.
func (c *content) read(p []byte) (int, error) {
	if c.chunked && c.left == 0 {
		if err := c.nextChunk(); err != nil || c.done {
			return 0, err
		}
	}

	if !c.unbounded {
		// Bytes behind the content are the next message.
		p = p[:min(int64(len(p)), c.left)]
	}

	n, err := c.take(p)
	// RFC 9112 section 6.3: without a length, the end of the connection is the end of the content.
	if c.unbounded {
		if errors.Is(err, io.EOF) {
			c.done, err = true, nil
		}
		return n, err
	}

	c.left -= int64(n)
	if !c.chunked && c.left == 0 {
		c.done = true
	}

	return n, err
}

// take empties the buffer first; large reads then go past it.
func (c *content) take(p []byte) (int, error) {
	if data := c.r.buffered(); len(data) > 0 {
		n := copy(p, data)
		c.r.at += n
		return n, nil
	}
	return c.r.Read(p)
}

// buffered is how much content needs no waiting. Of chunked content it counts the current chunk, or one byte where
// another has begun: of the first, any byte will do, which may be a malformed one.
func (c *content) buffered() int {
	data := c.r.buffered()
	if !c.chunked || c.left > 0 || c.done {
		return int(min(c.left, int64(len(data))))
	}

	// The size line of the first chunk has not been looked at. Whoever waits for "something" gets to see whether it
	// is malformed.
	if !c.begun {
		return min(1, len(data))
	}

	// What is left is the line end of the chunk before.
	data = data[min(2, len(data)):]
	if line := bytes.IndexByte(data, '\n'); line >= 0 && line+1 < len(data) {
		return 1
	}
	return 0
}

const maxChunkLine = 4096 // with its extensions, which are dropped

// nextChunk reads what stands between two chunks (RFC 9112 section 7.1).
func (c *content) nextChunk() error {
	if c.begun {
		// Exactly CRLF ends a chunk. Lenient readers that skip other bytes here are how chunks are smuggled.
		line, err := c.line(2)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return errChunk
		}
	}

	c.begun = true
	line, err := c.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, ok := chunkSize(line, c.padded)
	if !ok {
		return errChunk
	}
	c.left = size
	if size == 0 {
		return c.readTrailers()
	}

	return nil
}

// chunkSize reads hexadecimal digits, white space if the size may be padded, and an extension without control
// characters behind them.
func chunkSize(line []byte, padded bool) (size int64, ok bool) {
	i := 0
	for ; i < len(line); i++ {
		digit, ok := hexDigit(line[i])
		if !ok {
			break
		}
		// Fifteen digits, 60 bits, are enough. More could overflow.
		if i == 15 {
			return 0, false
		}
		size = size<<4 | int64(digit)
	}

	if i == 0 {
		return 0, false
	}

	rest := line[i:]
	if padded {
		rest = bytes.TrimLeft(rest, " \t")
	}
	// Requests may not have a space here either: some readers take "5 ;" for a size, others do not.
	if len(rest) > 0 && rest[0] != ';' {
		return 0, false
	}

	// Control characters in an extension have made readers disagree about where the line ends.
	for _, c := range rest {
		if c < ' ' && c != '\t' || c == 0x7f {
			return 0, false
		}
	}

	return size, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// line returns the next line without its CRLF. It aliases the buffer until the next read.
func (c *content) line(limit int) ([]byte, error) {
	for looked := 0; ; {
		data := c.r.buffered()
		for i := looked; i < len(data); i++ {
			switch {
			case data[i] == '\n':
				// A bare LF is refused here even where RFC 9112 section 2.2 allows it: readers that accept it frame
				// the rest differently.
				if i == 0 || data[i-1] != '\r' || i > limit {
					return nil, errChunk
				}
				c.r.at += i + 1
				return data[:i-1], nil
			case i > 0 && data[i-1] == '\r':
				return nil, errChunk
			}
		}

		if looked = len(data); looked >= limit {
			return nil, errChunk
		}
		if err := c.r.fill(); err != nil {
			return nil, err
		}
	}
}

func (c *content) readTrailers() error {
	for total, count := 0, 0; ; count++ {
		line, err := c.line(c.limit)
		if err != nil {
			return err
		}

		if len(line) == 0 {
			c.done = true
			return nil
		}

		if total += len(line); total > c.limit || count == maxFields {
			return errTrailerSize
		}

		field, ok := parseField(string(line))
		if !ok {
			return errChunk
		}
		// RFC 9110 section 6.5.1: a trailer must not change framing, routing or authentication after the fact.
		if !message.ForbiddenTrailer(field.Name) {
			c.trailers = append(c.trailers, field)
		}
	}
}
