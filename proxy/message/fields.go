package message

import "strings"

// Field is one field line: a name and a value without surrounding white space (RFC 9110 section 5).
type Field struct{ Name, Value string }

// Fields are the field lines of a message in wire order. Names compare without regard to case.
type Fields []Field

// Get returns the first value of name.
func (f Fields) Get(name string) (value string, ok bool) {
	for i := range f {
		if strings.EqualFold(f[i].Name, name) {
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

// Add appends a field line.
func (f *Fields) Add(name, value string) { *f = append(*f, Field{name, value}) }

// Set replaces every line of name by one.
func (f *Fields) Set(name, value string) {
	f.Del(name)
	f.Add(name, value)
}

// Del removes every line of name, in place.
func (f *Fields) Del(name string) {
	f.DelFunc(func(n string) bool { return strings.EqualFold(n, name) })
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
		if !strings.EqualFold(f[i].Name, name) {
			continue
		}
		for item := range strings.SplitSeq(f[i].Value, ",") {
			if strings.EqualFold(strings.Trim(item, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// hopByHop are the fields that speak of one connection only (RFC 9110 section 7.6.1), and the older ones of RFC 2616.
var hopByHop = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "te": true, "transfer-encoding": true,
	"upgrade": true, "trailer": true, "proxy-authenticate": true, "proxy-authorization": true, "http2-settings": true,
}

// RemoveHopByHop deletes the fields that a proxy must not pass on: the standing ones, and those that Connection nominates.
// The fields that frame a message or name its host cannot be nominated away (RFC 9110 section 7.6.1).
func (f *Fields) RemoveHopByHop() {
	nominated := map[string]bool(nil)
	for _, field := range *f {
		if !strings.EqualFold(field.Name, "Connection") {
			continue
		}
		for item := range strings.SplitSeq(field.Value, ",") {
			if nominated == nil {
				nominated = map[string]bool{}
			}
			nominated[strings.ToLower(strings.Trim(item, " \t"))] = true
		}
	}
	delete(nominated, "content-length")
	delete(nominated, "host")
	f.DelFunc(func(name string) bool {
		name = strings.ToLower(name)
		return hopByHop[name] || nominated[name]
	})
}
