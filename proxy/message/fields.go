package message

import (
	"iter"
	"net/url"
	"strings"
)

// Field is one field line: a name and a value without surrounding white space (RFC 9110 section 5).
type Field struct{ Name, Value string }

// Fields are the field lines of a message in wire order. Names compare without regard to case.
type Fields []Field

// Get returns the first value of name.
func (f Fields) Get(name string) (value string, ok bool) {
	for i := range f {
		if Is(f[i].Name, name) {
			return f[i].Value, true
		}
	}
	return "", false
}

// Value returns the first value of name, or "".
func (f Fields) Value(name string) string {
	value, _ := f.Get(name)
	return value
}

// Cookie returns a request's cookie (RFC 6265 section 4.2.1).
func (f Fields) Cookie(name string) (value string, ok bool) {
	for i := range f {
		if !Is(f[i].Name, "Cookie") {
			continue
		}
		for pair := range strings.SplitSeq(f[i].Value, ";") {
			if n, value, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && n == name {
				return value, true
			}
		}
	}
	return "", false
}

// Lines yields the values of all lines of a name.
func (f Fields) Lines(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range f {
			if Is(f[i].Name, name) && !yield(f[i].Value) {
				return
			}
		}
	}
}

// Cookies yields the values of all cookies of a name.
func (f Fields) Cookies(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range f.Lines("Cookie") {
			for pair := range strings.SplitSeq(line, ";") {
				n, value, ok := strings.Cut(pair, "=")
				if ok && strings.Trim(n, " \t") == name && !yield(strings.Trim(value, " \t")) {
					return
				}
			}
		}
	}
}

// Aliased reports whether a field is there that some backends take for the one of this name: see Alias.
func (f Fields) Aliased(name string) bool {
	want, _ := Alias(name)
	for i := range f {
		if plain, _ := Alias(f[i].Name); Is(plain, want) && !Is(f[i].Name, name) {
			return true
		}
	}
	return false
}

// CookieAliased reports whether a cookie is there that some targets read as one of this name, though its own name is
// another.
func (f Fields) CookieAliased(name string) bool {
	for line := range f.Lines("Cookie") {
		for pair := range strings.SplitSeq(line, ";") {
			n, _, _ := strings.Cut(pair, "=")
			if n = strings.Trim(n, " \t"); n != name && readAs(n) == readAs(name) {
				return true
			}
		}
	}
	return false
}

// readAs is the name by which PHP knows a cookie: a dot, a blank or an open bracket becomes an underscore, and what a
// closed bracket follows is a list. Versions of PHP and Rack before 2020 decode the name first.
func readAs(name string) string {
	// A name that cannot be decoded is read as it is.
	if decoded, err := url.PathUnescape(name); err == nil {
		name = strings.TrimLeft(decoded, " ")
	}
	if at := strings.IndexByte(name, '['); at > 0 && strings.IndexByte(name[at:], ']') > 0 {
		name = name[:at]
	}
	return strings.Map(func(r rune) rune {
		if r == '.' || r == ' ' || r == '[' {
			return '_'
		}
		return r
	}, name)
}

// DelCookie removes every cookie of a name, and those that some targets read as one, and leaves the others as they are.
func (f *Fields) DelCookie(name string) {
	kept := (*f)[:0]
	for _, field := range *f {
		if Is(field.Name, "Cookie") {
			var others []string
			for pair := range strings.SplitSeq(field.Value, ";") {
				if n, _, _ := strings.Cut(pair, "="); readAs(strings.Trim(n, " \t")) != readAs(name) {
					others = append(others, strings.Trim(pair, " \t"))
				}
			}
			if field.Value = strings.Join(others, "; "); field.Value == "" {
				continue
			}
		}
		kept = append(kept, field)
	}
	clear((*f)[len(kept):])
	*f = kept
}

// Add appends a field line.
func (f *Fields) Add(name, value string) { *f = append(*f, Field{name, value}) }

// Set replaces every line of name by one.
func (f *Fields) Set(name, value string) {
	f.Del(name)
	f.Add(name, value)
}

// Del removes every line of name, in place.
func (f *Fields) Del(name string) {
	f.DelFunc(func(n string) bool { return Is(n, name) })
}

// DelFunc removes every line whose name del accepts, in place.
func (f *Fields) DelFunc(del func(name string) bool) {
	kept := (*f)[:0]
	for _, field := range *f {
		if !del(field.Name) {
			kept = append(kept, field)
		}
	}
	clear((*f)[len(kept):])
	*f = kept
}

// HasToken reports whether a comma-separated list field holds token, without regard to case (RFC 9110 section 5.6.1).
func (f Fields) HasToken(name, token string) bool {
	for i := range f {
		if !Is(f[i].Name, name) {
			continue
		}
		for item := range strings.SplitSeq(f[i].Value, ",") {
			if Is(strings.Trim(item, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// hopByHop are the fields that speak of one connection only (RFC 9110 section 7.6.1), and the older ones of RFC 2616.
var hopByHop = NewNames("Connection", "Keep-Alive", "Proxy-Connection", "TE", "Transfer-Encoding", "Upgrade", "Trailer",
	"Proxy-Authenticate", "Proxy-Authorization", "HTTP2-Settings")

// notNominated are what Connection cannot take away: its own options, and the fields that frame a message or name its
// host.
var notNominated = NewNames("close", "keep-alive", "upgrade", "te", "content-length", "host")

// HopByHop reports whether a field speaks of one connection only.
func HopByHop(name string) bool { return hopByHop.Has(name) }

// RemoveHopByHop deletes the fields that a proxy must not pass on: the standing ones, and those that Connection
// nominates.
func (f *Fields) RemoveHopByHop() {
	var nominated map[string]bool
	for _, field := range *f {
		if !Is(field.Name, "Connection") || notNominated.Has(field.Value) {
			continue
		}
		for item := range strings.SplitSeq(field.Value, ",") {
			if item = strings.Trim(item, " \t"); item != "" && !notNominated.Has(item) {
				if nominated == nil {
					nominated = map[string]bool{}
				}
				nominated[strings.ToLower(item)] = true
			}
		}
	}

	f.DelFunc(hopByHop.Has)
	if nominated != nil {
		f.DelFunc(func(name string) bool { return nominated[strings.ToLower(name)] })
	}
}

// ForbiddenTrailer reports whether a field would, as a trailer, change what was said in the head (RFC 9110 section
// 6.5.1), or tell what a head may not: some backends make one list of both.
func ForbiddenTrailer(name string) bool {
	plain, _ := Alias(name)
	return forbiddenTrailers.Has(plain) || hopByHop.Has(plain) || Claims(plain) || ClaimsIdentity(plain) || ClaimsAddress(plain) || ClaimsRequest(plain) || Variable(plain)
}

var forbiddenTrailers = NewNames("Content-Length", "Host", "Content-Encoding", "Content-Type", "Content-Range", "Authorization", "Set-Cookie", "Cookie", "Expect",
	"Cache-Control", "Location", "Range", "Max-Forwards", "Vary", "Date", "Age", "Expires", "WWW-Authenticate", "Retry-After", "Pragma", "Alt-Svc", "Strict-Transport-Security", "Traceparent", "Tracestate")

// GRPC reports whether a message is one of gRPC, whose result stands in trailers.
func (f Fields) GRPC() bool {
	more, ok := strings.CutPrefix(strings.ToLower(f.Value("Content-Type")), "application/grpc")
	return ok && (more == "" || more[0] == '+' || more[0] == ';')
}
