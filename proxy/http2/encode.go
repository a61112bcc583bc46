package http2

import (
	"cmp"
	"strconv"
	"strings"

	"padlock/proxy/message"
)

// Fields are encoded without a dynamic table (RFC 7541): what is sent then depends on nothing that was sent before,
// and streams encode without waiting for each other.

// noTable is the dynamic table size update that says so; it goes before a connection's first block (RFC 7541 section
// 6.3).
const noTable = 0x20

// statusIndex is where a status stands in the static table (RFC 7541 appendix A); 0: it does not.
func statusIndex(status int) byte {
	switch status {
	case 200:
		return 8
	case 204:
		return 9
	case 206:
		return 10
	case 304:
		return 11
	case 400:
		return 12
	case 404:
		return 13
	case 500:
		return 14
	}
	return 0
}

const (
	statusName = 8
	lengthName = 28 // content-length
)

// staticNames are the names of the static table that a message can have, by their length: a map would have to hash each
// name of each response.
var staticNames = func() (byLength [32][]staticName) {
	for name, index := range map[string]byte{
		"accept-charset": 15, "accept-encoding": 16, "accept-language": 17, "accept-ranges": 18, "accept": 19, "access-control-allow-origin": 20,
		"age": 21, "allow": 22, "authorization": 23, "cache-control": 24, "content-disposition": 25, "content-encoding": 26, "content-language": 27,
		"content-length": 28, "content-location": 29, "content-range": 30, "content-type": 31, "cookie": 32, "date": 33, "etag": 34,
		"expect": 35, "expires": 36, "from": 37, "if-match": 39, "if-modified-since": 40, "if-none-match": 41, "if-range": 42,
		"if-unmodified-since": 43, "last-modified": 44, "link": 45, "location": 46, "max-forwards": 47, "range": 50, "referer": 51,
		"refresh": 52, "retry-after": 53, "server": 54, "set-cookie": 55, "strict-transport-security": 56, "user-agent": 58, "vary": 59,
		"via": 60, "www-authenticate": 61,
	} {
		byLength[len(name)] = append(byLength[len(name)], staticName{name, index})
	}
	return byLength
}()

type staticName struct {
	name  string
	index byte
}

// nameIndex is where a name in lower case stands in the static table; 0: it does not.
func nameIndex(name []byte) byte {
	if len(name) >= len(staticNames) {
		return 0
	}
	for i := range staticNames[len(name)] {
		if known := &staticNames[len(name)][i]; known.name[0] == name[0] && known.name == string(name) {
			return known.index
		}
	}
	return 0
}

// The pseudo-fields of a request in the static table.
const (
	authorityName = 1
	methodGET     = 2
	methodPOST    = 3
	pathName      = 4
	schemeHTTP    = 6
	schemeHTTPS   = 7
	methodName    = methodGET
)

// appendInteger is RFC 7541 section 5.1, behind the bits of first.
func appendInteger(b []byte, first byte, prefix uint, n int) []byte {
	limit := 1<<prefix - 1
	if n < limit {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func appendStatus(b []byte, status int) []byte {
	if index := statusIndex(status); index != 0 {
		return append(b, 0x80|index)
	}
	b = append(b, statusName, 3)
	return strconv.AppendInt(b, int64(status), 10)
}

// appendField adds a literal field without indexing (RFC 7541 section 6.2.2), its name in lower case.
func appendField(b []byte, name, value string) []byte {
	start := len(b)
	b = appendInteger(append(b, 0), 0, 7, len(name))
	text := len(b)

	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}

	if index := nameIndex(b[text:]); index != 0 {
		b = appendInteger(b[:start], 0, 4, int(index))
	}

	return appendValue(b, value)
}

func appendValue(b []byte, value string) []byte {
	return append(appendInteger(b, 0, 7, len(value)), value...)
}

// appendLength adds the field that tells how long the content is.
func appendLength(b []byte, n int64) []byte {
	var room [20]byte
	digits := strconv.AppendInt(room[:0], n, 10)
	b = appendInteger(appendInteger(b, 0, 4, lengthName), 0, 7, len(digits))
	return append(b, digits...)
}

func appendFields(b []byte, fields message.Fields) []byte {
	for name, value := range fields.Sent {
		b = appendField(b, name, value)
	}
	return b
}

// appendRequest encodes the head of a request to authority. Its length is told where there is content, or where the
// method lets a target expect some (RFC 9110 section 8.6).
func appendRequest(b []byte, r *message.Request, scheme byte, authority string) []byte {
	switch {
	case r.Upgrade != "":
		b = appendValue(append(b, methodName), "CONNECT")
		b = appendField(b, ":protocol", r.Upgrade)
	case r.Method == "GET":
		b = append(b, 0x80|methodGET)
	case r.Method == "POST":
		b = append(b, 0x80|methodPOST)
	default:
		b = appendValue(append(b, methodName), r.Method)
	}
	b = append(b, 0x80|scheme)
	b = appendValue(append(b, authorityName), cmp.Or(r.Host, authority))
	if r.Target == "/" {
		b = append(b, 0x80|pathName)
	} else {
		b = appendValue(append(b, pathName), r.Target)
	}

	for i := range r.Fields {
		if f := &r.Fields[i]; !omitted(r, f.Name) {
			b = appendField(b, f.Name, f.Value)
		}
	}

	switch {
	case r.Body == nil && r.Upgrade == "" && (r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH"):
		b = appendField(b, "content-length", "0")
	case r.Body != nil && r.ContentLength >= 0:
		b = appendLength(b, r.ContentLength)
	}
	if r.Body == nil {
		return b
	}

	if r.Expect {
		b = appendField(b, "expect", "100-continue")
	}
	if len(r.Declared) > 0 {
		b = appendField(b, "trailer", strings.Join(r.Declared, ", "))
	}
	return b
}

// omitted are the fields of a request that HTTP/2 says otherwise, or not at all.
func omitted(r *message.Request, name string) bool {
	switch {
	case message.Is(name, "Host"), message.Is(name, "Content-Length"), message.OfOneConnection(name):
		return true
	case r.Upgrade != "":
		// RFC 8441 section 5.
		return message.Is(name, "Sec-WebSocket-Key")
	}
	return false
}
