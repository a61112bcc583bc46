package message

import (
	"strings"

	"padlock/proxy/paths"
)

// Block is a list of fields of HTTP/2 or 3 while it is being read: a request's, a response's, or trailers (RFC 9113
// section 8.3, RFC 9114 section 4.3).
type Block struct {
	Limit  int  // bytes of fields that are taken
	Most   int  // fields that are taken; those into which a client cuts its Cookie are one
	Answer bool // they are a target's, of which some is put in order

	Fields Fields // without pseudo-fields
	Fault  string // why no request can come of it, or no trailers, in words; "": nothing is wrong yet

	size                                              int // of the fields, as RFC 9113 section 6.5.2 counts
	crumbs                                            int // fields that are a part of Cookie
	method, scheme, authority, path, protocol, status string
	given                                             given
}

// given tells which of the pseudo-fields have come, in the order of Block.
type given [6]bool

const givenStatus = 5

// Begin makes the block ready for another list.
func (b *Block) Begin() { *b = Block{Limit: b.Limit, Most: b.Most, Answer: b.Answer} }

const usualFields = 24 // with those that are added for a target

// Method is the request's, as far as it has come.
func (b *Block) Method() string { return b.method }

// blame notes what is wrong first.
func (b *Block) blame(fault string) {
	if b.Fault == "" {
		b.Fault = fault
	}
}

// TooLarge reports whether more has come than is taken.
func (b *Block) TooLarge() bool {
	return b.size > b.Limit || len(b.Fields)-max(b.crumbs-1, 0) > b.Most
}

const fieldOverhead = 32 // RFC 9113 section 6.5.2

// Size is how much memory what was taken counts for, in bytes.
func (b *Block) Size() int64 { return int64(min(b.size, b.Limit)) }

// Add takes a field from a decoder.
func (b *Block) Add(name, value string) {
	// The decoder goes on, as the state of its table is that of the whole connection, but nothing more is kept.
	if b.size += len(name) + len(value) + fieldOverhead; b.TooLarge() {
		return
	}

	if strings.HasPrefix(name, ":") {
		b.pseudo(name, value)
		return
	}

	if b.Answer {
		// As in HTTP/1.1, where white space around a value is no part of it. Fields of one connection are taken out
		// further up, with those that they name.
		value = strings.Trim(value, " \t")
	}
	if fault := fieldFault(name, value); fault != "" && !(b.Answer && HopByHop(name)) {
		b.blame(fault)
		return
	}

	if b.Fields == nil {
		b.Fields = make(Fields, 0, usualFields)
	}

	b.Fields = append(b.Fields, Field{Name: name, Value: value})
	if name == "cookie" {
		b.crumbs++
	}
}

// What is wrong with a field.
const (
	faultName       = "the name of a field is not a token in lower case"
	faultValue      = "the value of a field has a control character in it, or white space around it"
	faultConnection = "Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding and Upgrade have no place in HTTP/2 and HTTP/3"
	faultTE         = "TE may only say trailers"
)

func fieldFault(name, value string) string {
	switch {
	case !lowerToken(name):
		return faultName
	case !tidyValue(value):
		return faultValue
	case OfOneConnection(name):
		return faultConnection
	case name == "te" && value != "trailers":
		return faultTE
	}
	return ""
}

var ofOneConnection = NewNames("Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade")

// OfOneConnection reports whether a field has no place in HTTP/2 and 3 (RFC 9113 section 8.2.2, RFC 9114 section 4.2).
func OfOneConnection(name string) bool { return ofOneConnection.Has(name) }

const faultPseudo = "a pseudo-header field is unknown, repeated or out of place"

func (b *Block) pseudo(name, value string) {
	var at *string
	var which int
	switch name {
	case ":method":
		which, at = 0, &b.method
	case ":scheme":
		which, at = 1, &b.scheme
	case ":authority":
		which, at = 2, &b.authority
	case ":path":
		which, at = 3, &b.path
	case ":protocol":
		which, at = 4, &b.protocol
	case ":status":
		which, at = givenStatus, &b.status
	}

	// Pseudo-header fields come before all others (RFC 9113 section 8.3): who reads the first and who reads the
	// last of two would see different requests.
	if at == nil || b.given[which] || len(b.Fields) > 0 {
		b.blame(faultPseudo)
		return
	}

	b.given[which], *at = true, value
}

// lowerToken is RFC 9113 section 8.2.1, and stricter: a token, as HTTP/1.1 demands of what we forward.
func lowerToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !TokenByte(c) || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return s != ""
}

func tidyValue(s string) bool {
	if s != "" && (blank(s[0]) || blank(s[len(s)-1])) {
		return false
	}
	return FieldValue(s)
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// What is wrong with a request.
const (
	faultMethod      = "the method is missing, or is not a token"
	faultAuthority   = "the host (:authority, Host) is missing, repeated, malformed, or said in two ways"
	faultLength      = "Content-Length is repeated, malformed, or announces content that does not come"
	faultExpectation = "only 100-continue can be expected"
	faultScheme      = "the scheme is neither https nor http"
	faultConnect     = "the CONNECT request is malformed"
)

// Request checks what has come, and makes a request of it; whole tells that nothing follows. It reports false for what
// could be read in two ways, and Fault says why. length is the content's; -1: whatever comes.
func (b *Block) Request(r *Request, proto string, whole bool) (length int64, ok bool) {
	switch {
	case b.Fault != "":
	case b.given[givenStatus]:
		b.blame(faultPseudo)
	case !Token(b.method):
		b.blame(faultMethod)
	case b.given[2] && !b.validAuthority():
		b.blame(faultAuthority)
	}

	if b.Fault != "" {
		return 0, false
	}

	host, hosts, length, lengths := b.takeOut(r, whole)
	// Either of both may be there (RFC 9114 section 4.3.1).
	if b.authority == "" {
		b.authority = host
	}

	switch {
	case hosts > 1 || hosts == 1 && !Is(host, b.authority) || !ValidHost(b.authority):
		b.blame(faultAuthority)
	case lengths > 1 || whole && length > 0:
		b.blame(faultLength)
	}

	if whole {
		length = 0
	}

	r.Method, r.Host, r.Target, r.Scheme, r.Proto, r.ContentLength = b.method, b.authority, b.path, "https", proto, length
	b.target(r, whole)
	return length, b.Fault == ""
}

// takeOut takes the fields out that say where a request goes and how it is framed, as padlock writes its own.
func (b *Block) takeOut(r *Request, whole bool) (host string, hosts int, length int64, lengths int) {
	length = -1
	cookies := 0
	kept := b.Fields[:0]
	for _, f := range b.Fields {
		switch f.Name {
		case "host":
			hosts++
			host = f.Value
			continue
		case "content-length":
			lengths++
			n, ok := Decimal(f.Value)
			if length = n; !ok {
				b.blame(faultLength)
			}
			continue
		case "expect":
			if !strings.EqualFold(f.Value, "100-continue") {
				b.blame(faultExpectation)
			}
			r.Expect = !whole
			continue
		case "trailer":
			for name := range strings.SplitSeq(f.Value, ",") {
				if name = strings.Trim(name, " \t"); Token(name) {
					r.Declared = append(r.Declared, name)
				}
			}
		case "cookie":
			cookies++
		}
		kept = append(kept, f)
	}

	b.Fields = kept
	if cookies > 1 {
		b.joinCookies()
	}
	return host, hosts, length, lengths
}

func (b *Block) validAuthority() bool { return b.authority != "" && ValidHost(b.authority) }

// target checks what says where the request goes: as usual, or as CONNECT does (RFC 9113 section 8.5, RFC 8441 section
// 4, RFC 9220).
func (b *Block) target(r *Request, whole bool) {
	if b.method == "CONNECT" && !b.given[4] {
		if r.Target = b.authority; b.authority == "" || b.given[1] || b.given[3] {
			b.blame(faultConnect)
		}
		// The field is refused further up.
		return
	}

	authority, _, ok := paths.Form(b.method, b.path)
	fault := TargetFault(b.path)
	switch {
	case b.scheme != "https" && b.scheme != "http":
		b.blame(faultScheme)
	case b.authority == "":
		b.blame(faultAuthority)
	case fault != "":
		b.blame(fault)
	case !ok || authority != "":
		b.blame(faultForm)
	case b.given[4] && !b.extended(r, whole):
		b.blame(faultConnect)
	case b.given[4]:
		b.connect(r)
	}
}

// extended reports whether a request with a protocol is the CONNECT that may have one (RFC 8441 section 4).
func (b *Block) extended(r *Request, whole bool) bool {
	return b.method == "CONNECT" && !whole && r.ContentLength <= 0 && Token(b.protocol)
}

// connect makes an extended CONNECT look as the upgrade that it stands for: a GET with a key, which HTTP/2 and 3 leave
// out (RFC 8441 section 5).
func (b *Block) connect(r *Request) {
	r.Method, r.Upgrade, r.ContentLength = "GET", strings.ToLower(b.protocol), 0
	b.Fields.Set("Sec-WebSocket-Key", WebSocketKey())
}

// joinCookies makes one field of several, as HTTP/1.1 wants it (RFC 9113 section 8.2.3).
func (b *Block) joinCookies() {
	var all strings.Builder
	first := -1
	// The first piece keeps its place, so that the order of the other fields does not change.
	kept := b.Fields[:0]
	for _, f := range b.Fields {
		if f.Name != "cookie" {
			kept = append(kept, f)
			continue
		}

		if first < 0 {
			first = len(kept)
			kept = append(kept, f)
		} else {
			all.WriteString("; ")
		}
		all.WriteString(f.Value)
	}

	kept[first].Value = all.String()
	b.Fields = kept
}

// Trailers checks what came behind the content, and leaves out what must not come there. It reports false for what is
// too large, or malformed, which Fault tells.
func (b *Block) Trailers() (Fields, bool) {
	if b.given != (given{}) {
		b.blame(faultPseudo)
	}
	if b.Fault != "" || b.TooLarge() {
		return nil, false
	}

	fields := make(Fields, 0, len(b.Fields))
	for _, f := range b.Fields {
		if !ForbiddenTrailer(f.Name) {
			fields = append(fields, f)
		}
	}

	return fields, true
}
