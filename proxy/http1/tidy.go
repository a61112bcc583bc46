package http1

import (
	"bytes"
	"strings"

	"padlock/proxy/message"
)

// Many servers, and most scripts behind them, end lines of a response's head with a bare LF, and some fold long fields.
// Nobody can be led astray by that: the response is framed anew for the client. What comes here is put in order, and
// then read as strictly as a request.

// tidy reports whether every line of a head ends with CRLF, and none is folded.
func tidy(head string) bool {
	for {
		end := strings.IndexByte(head, '\n')
		if end < 0 {
			return true
		}
		next := end + 1
		if end == 0 || head[end-1] != '\r' || next < len(head) && blank(head[next]) {
			return false
		}
		head = head[next:]
	}
}

// tidied is a head in order: every line ends with CRLF, and a space stands for each fold (RFC 9112 sections 2.2 and
// 5.2).
func tidied(head string) (string, error) {
	var b strings.Builder
	b.Grow(len(head) + 64)
	logical := 0 // where the field that is being read begins in b

	for n := 0; head != ""; n++ {
		line, rest, _ := strings.Cut(head, "\n")
		line, head = strings.TrimSuffix(line, "\r"), rest
		if line == "" || !blank(line[0]) {
			if n > 0 {
				b.WriteString("\r\n")
			}
			logical = b.Len()
			b.WriteString(strings.TrimRight(line, " \t"))
			continue
		}

		name, _, _ := strings.Cut(b.String()[logical:], ":")
		switch {
		case n < 2: // nothing that could be folded
			return "", errField
		case message.Is(name, "Content-Length"), message.Is(name, "Transfer-Encoding"):
			return "", errFraming
		}

		b.WriteString(" " + strings.Trim(line, " \t"))
	}

	b.WriteString("\r\n")
	return b.String(), nil
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// responseHead takes the bytes up to the empty line that ends a response's head, at most limit of them.
func (r *reader) responseHead(limit int) ([]byte, error) {
	for looked := 0; ; {
		data := r.buffered()
		if end := looseHeadEnd(data, looked); end > 0 {
			if end > limit {
				return nil, errHead
			}
			r.at += end
			return data[:end], nil
		}

		// Something else is spoken there, and may go on for long.
		if !bytes.HasPrefix(data, protocol[:min(len(data), len(protocol))]) {
			return nil, errStatusLine
		}
		if looked = len(data); looked > limit {
			return nil, errHead
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

var protocol = []byte("HTTP/")

// looseHeadEnd is headEnd where lines may end with a bare LF.
func looseHeadEnd(b []byte, from int) int {
	from = max(0, from-2)
	for {
		line := bytes.IndexByte(b[from:], '\n')
		if line < 0 {
			return 0
		}
		from += line + 1
		switch rest := b[from:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return from + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return from + 2
		}
	}
}
