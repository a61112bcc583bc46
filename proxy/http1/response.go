package http1

import (
	"errors"
	"strings"
	"time"

	"padlock/proxy/message"
)

// ErrMalformed is wrapped by the errors that a backend's malformed response gives.
var ErrMalformed = errors.New("malformed HTTP/1.1 response")

// responseHead is a parsed response head. Its strings are parts of one that is its own.
type responseHead struct {
	status    int
	minor     byte // of HTTP/1.minor
	fields    message.Fields
	length    int64 // of the content; lengthChunked, lengthUnbounded
	keepAlive bool
	idle      time.Duration // for which the connection can be kept; 0: nothing is said
	upgraded  bool          // 101, to the protocol that was asked for
}

const (
	lengthChunked   = -1
	lengthUnbounded = -2 // until the connection ends
)

var (
	errStatusLine   = errors.New("the status line is malformed")
	errUnasked      = errors.New("it switches protocols without being asked")
	errLengths      = errors.New("Content-Length is repeated or malformed, or stands beside Transfer-Encoding")
	errCoding       = errors.New("its transfer coding is not chunked")
	errUnsolicited  = errors.New("it sent something before it was asked")
	errInterimCount = errors.New("too many interim responses")
)

// parse reads a head that ends with its empty line, the answer to a request with the given method that may have asked for an upgrade. room is
// where its fields go if they fit.
func (h *responseHead) parse(b []byte, room message.Fields, method, upgrade string) (err error) {
	text := string(b)
	*h = responseHead{fields: roomFor(text, room, maxFields)}
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok || !h.statusLine(line) {
		return errStatusLine
	}
	if h.fields, err = parseFields(rest, h.fields, maxFields); err != nil {
		return err
	}
	return h.interpret(method, upgrade)
}

// statusLine is RFC 9112 section 4. The space before an empty reason may be missing, as it often is.
func (h *responseHead) statusLine(line string) bool {
	const least = len("HTTP/1.1 200")
	if len(line) < least || line[:7] != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' {
		return false
	}
	h.minor = line[7] - '0'
	for _, c := range []byte(line[9:12]) {
		if c < '0' || c > '9' {
			return false
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.status < 100 || h.status > 599 || len(line) > least && line[least] != ' ' {
		return false
	}
	for i := least; i < len(line); i++ {
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func (h *responseHead) interpret(method, upgrade string) error {
	lengths, encodings := 0, 0
	length, encoding := "", ""
	h.keepAlive = h.minor == 1
	for _, f := range h.fields {
		switch {
		case message.Is(f.Name, "Content-Length"):
			lengths++
			length = f.Value
		case message.Is(f.Name, "Transfer-Encoding"):
			encodings++
			encoding = f.Value
		case message.Is(f.Name, "Keep-Alive"):
			h.idle = keepAliveTime(f.Value)
		case message.Is(f.Name, "Connection"):
			for item := range strings.SplitSeq(f.Value, ",") {
				switch item = strings.Trim(item, " \t"); {
				case message.Is(item, "close"):
					h.keepAlive = false
				case message.Is(item, "keep-alive") && h.minor == 0:
					h.keepAlive = true
				}
			}
		}
	}
	h.keepAlive = h.keepAlive && h.idle >= 0
	n, ok := int64(0), true
	if lengths > 0 {
		n, ok = message.Decimal(length)
	}
	switch {
	case lengths > 1 || !ok || lengths > 0 && encodings > 0:
		return errLengths
	case encodings > 1 || encodings == 1 && (h.minor == 0 || !message.Is(encoding, "chunked")):
		return errCoding
	}
	return h.frame(method, upgrade, lengths > 0, n, encodings > 0)
}

// keepAliveMargin is how much sooner than a backend says its connection is given up: a request may be on its way when it closes.
const keepAliveMargin = time.Second

// keepAliveTime reads the timeout of Keep-Alive (RFC 2068 section 19.7.1.1): less than 0 if there is no time left.
func keepAliveTime(value string) time.Duration {
	for parameter := range strings.SplitSeq(value, ",") {
		name, text, _ := strings.Cut(strings.Trim(parameter, " \t"), "=")
		if seconds, ok := message.Decimal(strings.Trim(text, ` "`)); ok && message.Is(strings.Trim(name, " "), "timeout") && seconds < 1<<31 {
			if idle := time.Duration(seconds)*time.Second - keepAliveMargin; idle > 0 {
				return idle
			}
			return -1
		}
	}
	return 0
}

// frame is RFC 9112 section 6.3.
func (h *responseHead) frame(method, upgrade string, announced bool, n int64, chunked bool) error {
	switch {
	case h.status == 101:
		h.upgraded = upgrade != "" && message.Is(h.fields.Value("Upgrade"), upgrade) && h.fields.HasToken("Connection", "upgrade")
		if !h.upgraded {
			return errUnasked
		}
	case h.status < 200 || h.status == 204:
		if chunked || n > 0 { // nothing follows, and somebody may think otherwise
			h.keepAlive = false
		}
	case method == "HEAD" || h.status == 304:
	case chunked:
		h.length = lengthChunked
	case announced:
		h.length = n
	default:
		h.length, h.keepAlive = lengthUnbounded, false
	}
	return nil
}
