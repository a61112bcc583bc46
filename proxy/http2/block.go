package http2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"padlock/proxy/message"
)

// block is a list of fields while it is being read: a request's, or its trailers (RFC 9113 section 8.3).
type block struct {
	limit int // bytes of fields that are taken
	most  int // fields that are taken

	id        uint32
	end       bool // nothing follows
	open      bool // more fragments follow
	sent      int  // bytes of fragments
	fragments int
	size      int // of the fields, as RFC 9113 section 6.5.2 counts
	malformed bool

	method, scheme, authority, path, protocol string
	given                                     [5]bool // of the pseudo-fields above
	fields                                    message.Fields
}

const maxFields = 200 // where nothing else is said

func (b *block) begin(id uint32, end bool) {
	*b = block{limit: b.limit, most: b.most, id: id, end: end, fields: b.fields[:0]}
}

func (b *block) tooLarge() bool { return b.size > b.limit || len(b.fields) > b.most }

// add takes a field from the decoder.
func (b *block) add(f hpack.HeaderField) {
	if b.size += int(f.Size()); b.tooLarge() {
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		b.pseudo(f)
		return
	}
	if !lowerToken(f.Name) || !tidyValue(f.Value) || ofOneConnection.Has(f.Name) || f.Name == "te" && f.Value != "trailers" {
		b.malformed = true
		return
	}
	b.fields = append(b.fields, message.Field{Name: f.Name, Value: f.Value})
}

func (b *block) pseudo(f hpack.HeaderField) {
	var at *string
	var which int
	switch f.Name {
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
	}
	if at == nil || b.given[which] || len(b.fields) > 0 {
		b.malformed = true
		return
	}
	b.given[which], *at = true, f.Value
}

// lowerToken is RFC 9113 section 8.2.1, and stricter: a token, as HTTP/1.1 demands of what we forward.
func lowerToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !message.TokenByte(c) || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return s != ""
}

func tidyValue(s string) bool {
	if s != "" && (blank(s[0]) || blank(s[len(s)-1])) {
		return false
	}
	return message.FieldValue(s)
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// request checks what has come, and makes a request of it. It reports false for what could be read in two ways.
// length is the content's; -1: whatever comes.
func (b *block) request(r *message.Request) (length int64, ok bool) {
	if b.malformed || !message.Token(b.method) || b.given[2] && !b.validAuthority() {
		return 0, false
	}
	host, hosts, length, lengths, cookies := "", 0, int64(-1), 0, 0
	kept := b.fields[:0]
	for _, f := range b.fields {
		switch f.Name {
		case "host":
			hosts++
			host = f.Value
			continue
		case "content-length":
			lengths++
			if length, ok = message.Decimal(f.Value); !ok {
				return 0, false
			}
			continue
		case "expect":
			if !strings.EqualFold(f.Value, "100-continue") {
				return 0, false
			}
			r.Expect = !b.end
			continue
		case "trailer":
			for name := range strings.SplitSeq(f.Value, ",") {
				if name = strings.Trim(name, " \t"); message.Token(name) {
					r.Declared = append(r.Declared, name)
				}
			}
		case "cookie":
			cookies++
		}
		kept = append(kept, f)
	}
	b.fields = kept
	if cookies > 1 {
		b.joinCookies()
	}
	if b.authority == "" {
		b.authority = host
	}
	if hosts > 1 || hosts == 1 && !message.Is(host, b.authority) || !message.ValidHost(b.authority) || lengths > 1 || b.end && length > 0 {
		return 0, false
	}
	if b.end {
		length = 0
	}
	r.Method, r.Host, r.Target, r.Scheme, r.Proto, r.ContentLength = b.method, b.authority, b.path, "https", "HTTP/2.0", length
	return length, b.target(r)
}

func (b *block) validAuthority() bool { return b.authority != "" && message.ValidHost(b.authority) }

// target checks what says where the request goes: as usual, or as CONNECT does (RFC 9113 section 8.5, RFC 8441 section 4).
func (b *block) target(r *message.Request) bool {
	if b.method == "CONNECT" && !b.given[4] {
		r.Target = b.authority
		return b.authority != "" && !b.given[1] && !b.given[3] // refused further up
	}
	if b.scheme != "https" && b.scheme != "http" || b.authority == "" || !message.ValidTarget(b.path) {
		return false
	}
	if b.path[0] != '/' && (b.path != "*" || b.method != "OPTIONS") {
		return false
	}
	if b.given[4] {
		if b.method != "CONNECT" || b.end || r.ContentLength > 0 || !message.Token(b.protocol) {
			return false
		}
		b.connect(r)
	}
	return true
}

// connect makes an extended CONNECT look as the upgrade that it stands for: a GET with a key, which HTTP/2 leaves out (RFC 8441 section 5).
func (b *block) connect(r *message.Request) {
	r.Method, r.Upgrade, r.ContentLength = "GET", strings.ToLower(b.protocol), 0
	b.fields.Set("Sec-WebSocket-Key", message.WebSocketKey())
}

// joinCookies makes one field of several, as HTTP/1.1 wants it (RFC 9113 section 8.2.3).
func (b *block) joinCookies() {
	var all strings.Builder
	first := -1
	kept := b.fields[:0]
	for _, f := range b.fields {
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
	b.fields = kept
}

// trailers checks what came behind the content.
func (b *block) trailers() (message.Fields, bool) {
	if b.malformed || b.tooLarge() || !b.end || b.given != [5]bool{} {
		return nil, false
	}
	fields := make(message.Fields, 0, len(b.fields))
	for _, f := range b.fields {
		if !message.ForbiddenTrailer(f.Name) {
			fields = append(fields, f)
		}
	}
	return fields, true
}
