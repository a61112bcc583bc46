package message

import "strings"

// What is wrong with a response.
const (
	faultStatus  = "its status is none"
	faultInterim = "an interim response ends it"
	faultUnasked = "it switches protocols, which HTTP/2 and HTTP/3 do not"
)

// Response checks what has come as the head of the answer to a request with the given method; whole tells that nothing
// follows. It reports false for what could be read in two ways, and Fault says why. length is the content's, -1:
// whatever comes; for HEAD, 204 and 304, after which none may come, it is 0.
func (b *Block) Response(method string, whole bool) (status int, length int64, ok bool) {
	status = statusOf(b.status)
	length = b.announced()
	bodiless := method == "HEAD" || status == 204 || status == 304
	switch {
	case b.given != given{givenStatus: true}:
		b.blame(faultPseudo)
	case status == 0:
		b.blame(faultStatus)
	case status == 101:
		b.blame(faultUnasked)
	case status < 200 && whole:
		b.blame(faultInterim)
	case whole && length > 0 && !bodiless && status >= 200:
		b.blame(faultLength)
	}

	if bodiless || whole {
		length = 0
	}
	return status, length, b.Fault == ""
}

// announced is the length that the fields tell, -1 if none.
func (b *Block) announced() int64 {
	length := int64(-1)
	for _, f := range b.Fields {
		if f.Name == "content-length" && !SameLengths(f.Value, &length) {
			b.blame(faultLength)
		}
	}
	return length
}

// statusOf reads three digits from 100 on (RFC 9110 section 15); 0: it is something else.
func statusOf(s string) (status int) {
	if len(s) != 3 || s[0] == '0' {
		return 0
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
		status = status*10 + int(s[i]-'0')
	}
	return status
}

// SameLengths reads a value of Content-Length, which may be a list of the same number (RFC 9110 section 8.6). n is -1,
// or what others said.
func SameLengths(value string, n *int64) bool {
	for item := range strings.SplitSeq(value, ",") {
		length, ok := Decimal(strings.Trim(item, " \t"))
		if !ok || *n >= 0 && *n != length {
			return false
		}
		*n = length
	}
	return true
}
