package http1

import (
	"errors"
	"strconv"
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
	mistaken  bool          // it says that it is of another HTTP
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
	errFraming      = errors.New("a line of Content-Length or Transfer-Encoding is folded")
	errLengths      = errors.New("Content-Length is malformed, or repeated with another value")
	errCoding       = errors.New("its transfer coding is not chunked")
	errUnsolicited  = errors.New("it sent something before it was asked")
	errInterimCount = errors.New("too many interim responses")
)

// parse reads a head that ends with its empty line, the answer to a request with the given method that may have asked
// for an upgrade. room is where its fields go if they fit.
func (h *responseHead) parse(b []byte, room message.Fields, method, upgrade string) (err error) {
	text := string(b)
	// Most heads are in order. Only those that are not cost a copy.
	if !tidy(text) {
		if text, err = tidied(text); err != nil {
			return err
		}
	}

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

// statusLine is RFC 9112 section 4. The space before an empty reason may be missing, as it often is. Some programs
// write HTTP/2.0 or HTTP/2, and mean HTTP/1.1: no other of its connections is spoken here. A status may be any number
// of three digits, as in RFC 9110 section 15.
func (h *responseHead) statusLine(line string) bool {
	version, rest, _ := strings.Cut(line, " ")
	switch version {
	case "HTTP/1.1":
		h.minor = 1
	case "HTTP/1.0":
	case "HTTP/2.0", "HTTP/3.0", "HTTP/2", "HTTP/3":
		h.minor, h.mistaken = 1, true
	default:
		return false
	}

	const digits = 3
	if len(rest) < digits {
		return false
	}

	for _, c := range []byte(rest[:digits]) {
		if c < '0' || c > '9' {
			return false
		}
		h.status = h.status*10 + int(c-'0')
	}

	if h.status < 100 || len(rest) > digits && rest[digits] != ' ' {
		return false
	}

	for _, c := range []byte(rest[digits:]) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}

	return true
}

func (h *responseHead) interpret(method, upgrade string) error {
	lengths, encodings := 0, 0
	n, same, chunked := int64(-1), true, true
	// A server that names another version cannot be trusted to keep the rules of persistent connections.
	h.keepAlive = h.minor == 1 && !h.mistaken
	for _, f := range h.fields {
		switch {
		case message.Is(f.Name, "Content-Length"):
			lengths++
			same = same && message.SameLengths(f.Value, &n)
		case message.Is(f.Name, "Transfer-Encoding"):
			n, only := codings(f.Value)
			encodings, chunked = encodings+n, chunked && only
		case message.Is(f.Name, "Keep-Alive"):
			h.idle = keepAliveTime(f.Value)
		case message.Is(f.Name, "Connection"):
			h.connection(f.Value)
		}
	}

	h.keepAlive = h.keepAlive && h.idle >= 0

	lengths, err := h.agree(lengths, n, same, encodings, chunked)
	if err != nil {
		return err
	}
	return h.frame(method, upgrade, lengths > 0, max(n, 0), encodings > 0)
}

// agree settles what Content-Length and Transfer-Encoding say together; the lengths that count are left.
func (h *responseHead) agree(lengths int, n int64, same bool, encodings int, chunked bool) (int, error) {
	switch {
	// RFC 9112 section 6.3: contradicting lengths make the framing unrecoverable. Choosing one could deliver
	// another response's bytes.
	case !same:
		return 0, errLengths
	// A coding that padlock does not decode would reach the client as content, without the field that names it.
	case encodings > 0 && (h.minor == 0 || !chunked):
		return 0, errCoding
	case encodings > 1:
		// The program and the server that it runs in both announced the coding. The content is chunked once.
		h.keepAlive = false
	}

	switch {
	// The coding decides, and what else the connection brings is nobody's (RFC 9112 section 6.3).
	case encodings > 0 && lengths > 0:
		h.fields.Del("Content-Length")
		lengths, h.keepAlive = 0, false
	// A value that says n is longer than n where it is written in another way.
	case lengths > 0 && len(h.fields.Value("Content-Length")) != digits(n), lengths > 1:
		h.fields.Set("Content-Length", strconv.FormatInt(n, 10))
	}

	return lengths, nil
}

// digits is how many a number has.
func digits(n int64) int {
	count := 1
	for ; n >= 10; n /= 10 {
		count++
	}
	return count
}

// codings counts the transfer codings of a field, and reports whether all of them are chunked.
func codings(value string) (n int, chunked bool) {
	chunked = true
	for coding := range strings.SplitSeq(value, ",") {
		n++
		chunked = chunked && message.Is(strings.Trim(coding, " \t"), "chunked")
	}
	return n, chunked
}

func (h *responseHead) connection(value string) {
	for item := range strings.SplitSeq(value, ",") {
		switch item = strings.Trim(item, " \t"); {
		case message.Is(item, "close"):
			h.keepAlive = false
		case message.Is(item, "keep-alive") && h.minor == 0:
			h.keepAlive = true
		}
	}
}

// keepAliveMargin is how much sooner than a backend says its connection is given up: a request may be on its way when
// it closes.
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
		// A 101 that nobody asked for would turn the rest of the connection into a tunnel of the backend's choice.
		if !h.upgraded {
			return errUnasked
		}
	case h.status < 200 || h.status == 204:
		// No content follows, but some readers would believe the fields.
		if chunked || n > 0 {
			h.keepAlive = false
		}
	// RFC 9112 section 6.3: no content follows, whatever the fields announce.
	case method == "HEAD" || h.status == 304:
	case chunked:
		h.length = lengthChunked
	case announced:
		h.length = n
	default:
		// Without a length, the content ends with the connection, which therefore serves no other request.
		h.length, h.keepAlive = lengthUnbounded, false
	}
	return nil
}
