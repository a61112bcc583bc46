package http1

import (
	"strings"

	"padlock/proxy/message"
	"padlock/proxy/paths"
)

// statusError is a request that is answered with a status of ours and nothing else. What framed it cannot be trusted,
// so the connection ends.
type statusError struct {
	status int
	text   string
}

func (r *statusError) Error() string { return r.text }

// What is refused. RFC 9112 lets a server repair some of it; a proxy that repairs a message may read it otherwise than
// its backend does.
var (
	errLine        = &statusError{400, "the request line is malformed"}
	errSpaces      = &statusError{400, "the request line has more than two spaces in it: one in the request target is sent as %20"}
	errTarget      = &statusError{400, "the request target is malformed"}
	errVersion     = &statusError{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"}
	errField       = &statusError{400, "a field line is malformed"}
	errFields      = &statusError{431, "there are too many fields"}
	errHead        = &statusError{431, "the head is too large"}
	errHost        = &statusError{400, "Host is missing, repeated or malformed"}
	errLength      = &statusError{400, "Content-Length is repeated or malformed"}
	errEncoding    = &statusError{501, "only the transfer coding chunked is understood"}
	errBothLengths = &statusError{400, "Content-Length and Transfer-Encoding exclude each other"}
	errExpectation = &statusError{417, "only 100-continue can be expected"}
)

const maxFields = 200 // in responses and trailers; of requests, where nothing else is said

// head is a parsed request head. Its strings are parts of one that is its own, so whoever keeps one keeps it safely.
type head struct {
	method, target, host string
	minor                byte // of HTTP/1.minor
	fields               message.Fields
	length               int64 // of the body; -1: chunked
	declared             []string
	upgrade              string
	keepAlive            bool
	expect               bool // 100-continue
}

// parse reads a head that ends with its empty line, and has at most the given number of fields, into a fresh h; room is
// where its fields go if they fit.
func (h *head) parse(b []byte, room message.Fields, most int) error {
	text := string(b)
	h.fields = roomFor(text, room, most)
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok {
		return errLine
	}

	if err := h.requestLine(line); err != nil {
		return err
	}

	var err error
	if h.fields, err = parseFields(rest, h.fields, most); err != nil {
		return err
	}

	return h.interpret()
}

// addedFields are those that padlock adds to a usual message, beyond the two lines of a head that are none.
const addedFields = 5

// roomFor is where the fields of a head go, with those that are added: in room if they fit, so that a small head costs
// little memory, and no larger one is moved as it grows.
func roomFor(head string, room message.Fields, most int) message.Fields {
	if lines := min(strings.Count(head, "\n"), most); lines+addedFields > cap(room) {
		return make(message.Fields, 0, lines+addedFields)
	}
	return room[:0]
}

// requestLine is RFC 9112 section 3, with single spaces.
func (h *head) requestLine(line string) error {
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || !message.Token(method) {
		return errLine
	}

	// The cases below exist for their messages. A space in the target is a common mistake of scripts, and deserves
	// its own.
	if len(version) != len("HTTP/1.1") || version[:7] != "HTTP/1." || version[7] != '0' && version[7] != '1' {
		if strings.HasPrefix(version, "HTTP/") && !strings.Contains(version, " ") {
			return errVersion
		}
		if strings.Contains(version, " ") {
			return errSpaces
		}
		return errLine
	}

	h.method, h.minor = method, version[7]-'0'
	return h.setTarget(target)
}

// setTarget knows the four forms of RFC 9112 section 3.2. An absolute one is reduced to its origin form, and names the
// host.
func (h *head) setTarget(target string) error {
	if fault := message.TargetFault(target); fault != "" {
		return &statusError{400, fault}
	}
	if h.method == "CONNECT" {
		// The target is refused further up; its form does not matter here.
		h.target = target
		return nil
	}
	var ok bool
	// The same reading as for HTTP/2 and HTTP/3, so that rules cannot be avoided by the form of a target.
	if h.host, h.target, ok = paths.Form(h.method, target); !ok {
		return errTarget
	}
	return nil
}

// parseFields reads field lines up to and with the empty line, and appends them to fields.
func parseFields(text string, fields message.Fields, most int) (message.Fields, error) {
	for {
		end := strings.IndexByte(text, '\n')
		switch {
		case end <= 0 || text[end-1] != '\r':
			return fields, errField
		case end == 1:
			return fields, nil
		case len(fields) == most:
			return fields, errFields
		}

		field, ok := parseField(text[:end-1])
		if !ok {
			return fields, errField
		}
		fields, text = append(fields, field), text[end+1:]
	}
}

// parseField is RFC 9112 section 5: no space before the colon, no folding.
func parseField(line string) (message.Field, bool) {
	colon := 0
	for colon < len(line) && message.TokenByte(line[colon]) {
		colon++
	}

	// RFC 9112 section 5.1: a space before the colon must be refused, as it has been used to smuggle requests.
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return message.Field{}, false
	}

	value := line[colon+1:]
	for value != "" && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}

	for value != "" && (value[len(value)-1] == ' ' || value[len(value)-1] == '\t') {
		value = value[:len(value)-1]
	}

	return message.Field{Name: line[:colon], Value: value}, message.FieldValue(value)
}

// interpret finds the fields that rule framing and connection, and takes Host out.
func (h *head) interpret() error {
	hosts, lengths, encodings := 0, 0, 0
	encoding, length, host := "", "", ""
	h.keepAlive = h.minor == 1
	// Host, the lengths and Expect leave the list: padlock writes its own. The array is reused, as the list only
	// shrinks.
	kept := h.fields[:0]
	for _, f := range h.fields {
		switch {
		case message.Is(f.Name, "Host"):
			hosts++
			host = f.Value
			continue
		case message.Is(f.Name, "Content-Length"):
			lengths++
			length = f.Value
			continue
		case message.Is(f.Name, "Transfer-Encoding"):
			encodings++
			encoding = f.Value
			continue
		case message.Is(f.Name, "Expect"):
			if !message.Is(f.Value, "100-continue") {
				return errExpectation
			}
			// RFC 9110 section 10.1.1: a server ignores 100-continue from HTTP/1.0.
			h.expect = h.minor == 1
			continue
		case message.Is(f.Name, "Connection"):
			h.connection(f.Value)
		case message.Is(f.Name, "Trailer"):
			h.declare(f.Value)
		}
		kept = append(kept, f)
	}

	h.fields = kept
	if h.upgrade != "" { // Connection asked for it
		h.upgrade = h.protocols()
	}
	if !h.settleHost(hosts, host) {
		return errHost
	}

	return h.framing(lengths, length, encodings, encoding)
}

// settleHost takes the host from the target or from Host. It reports false where they do not name one host together.
func (h *head) settleHost(hosts int, host string) bool {
	// RFC 9112 section 3.2 demands exactly one Host. Two would let the backend choose another site than padlock
	// did.
	if hosts > 1 || hosts == 0 && h.minor == 1 || !message.ValidHost(host) && hosts == 1 {
		return false
	}

	switch {
	case h.host == "":
		h.host = host
	// RFC 9112 section 3.2.2 ignores Host; a backend may not.
	case !message.ValidHost(h.host), hosts == 1 && !message.Is(host, h.host):
		return false
	}
	return true
}

// protocols are those that the client may go over to, in the order of its preference (RFC 9110 section 7.8).
func (h *head) protocols() (list string) {
	for _, f := range h.fields {
		switch {
		case !message.Is(f.Name, "Upgrade") || f.Value == "":
		case list == "":
			list = f.Value
		default:
			list += ", " + f.Value
		}
	}
	return list
}

// declare notes the names of trailers.
func (h *head) declare(value string) {
	for name := range strings.SplitSeq(value, ",") {
		if name = strings.Trim(name, " \t"); message.Token(name) {
			h.declared = append(h.declared, name)
		}
	}
}

func (h *head) connection(value string) {
	for item := range strings.SplitSeq(value, ",") {
		switch item = strings.Trim(item, " \t"); {
		case message.Is(item, "close"):
			h.keepAlive = false
		// HTTP/1.1 keeps connections anyway. For HTTP/1.0 this is the old extension that ab and some health checks
		// still use.
		case message.Is(item, "keep-alive") && h.minor == 0:
			h.keepAlive = true
		case message.Is(item, "upgrade") && h.minor == 1:
			// The placeholder stays until the Upgrade field itself is read.
			h.upgrade = "?"
		}
	}
}

// framing is RFC 9112 section 6. Whatever could be read in two ways is refused.
func (h *head) framing(lengths int, length string, encodings int, encoding string) error {
	switch {
	// RFC 9112 section 6.1 allows either to win, and that is how requests are smuggled: the backend may choose the
	// other one.
	case encodings > 0 && lengths > 0:
		return errBothLengths
	// RFC 9112 section 6.1: HTTP/1.0 has no chunks, so such a message has faulty framing.
	case encodings > 0 && h.minor == 0:
		return errEncoding
	case encodings > 1 || encodings == 1 && !message.Is(encoding, "chunked"):
		return errEncoding
	case encodings == 1:
		h.length = -1
	case lengths > 1:
		return errLength
	case lengths == 1:
		n, ok := message.Decimal(length)
		if !ok {
			return errLength
		}
		h.length = n
	}
	return nil
}
