package http2

import (
	"strconv"

	"padlock/proxy/message"
)

// Fields are encoded without a dynamic table (RFC 7541): what is sent then depends on nothing that was sent before,
// and streams encode without waiting for each other.

// noTable is the dynamic table size update that says so; it goes before a connection's first block (RFC 7541 section
// 6.3).
const noTable = 0x20

// statusIndex has the statuses of the static table (RFC 7541 appendix A).
var statusIndex = map[int]byte{200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}

const statusName = 8

// nameIndex has the names of the static table that a response can have.
var nameIndex = map[string]byte{
	"accept-charset": 15, "accept-encoding": 16, "accept-language": 17, "accept-ranges": 18, "accept": 19, "access-control-allow-origin": 20,
	"age": 21, "allow": 22, "cache-control": 24, "content-disposition": 25, "content-encoding": 26, "content-language": 27,
	"content-length": 28, "content-location": 29, "content-range": 30, "content-type": 31, "date": 33, "etag": 34, "expires": 36, "from": 37,
	"last-modified": 44, "link": 45, "location": 46, "refresh": 52, "retry-after": 53, "server": 54, "set-cookie": 55,
	"strict-transport-security": 56, "vary": 59, "via": 60, "www-authenticate": 61,
}

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
	if index := statusIndex[status]; index != 0 {
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

	if index := nameIndex[string(b[text:])]; index != 0 {
		b = appendInteger(b[:start], 0, 4, int(index))
	}

	return appendValue(b, value)
}

func appendValue(b []byte, value string) []byte {
	return append(appendInteger(b, 0, 7, len(value)), value...)
}

func appendFields(b []byte, fields message.Fields) []byte {
	for name, value := range fields.Sent {
		b = appendField(b, name, value)
	}
	return b
}
