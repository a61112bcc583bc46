package http1

import (
	"bytes"
	"strings"
)

// irregular are names that HTTP/1.1 clients write with more capitals than the first of each word.
var irregular = map[string]string{
	"dnt": "DNT", "sec-gpc": "Sec-GPC", "soapaction": "SOAPAction", "te": "TE",
	"sec-websocket-extensions": "Sec-WebSocket-Extensions", "sec-websocket-key": "Sec-WebSocket-Key",
	"sec-websocket-protocol": "Sec-WebSocket-Protocol", "sec-websocket-version": "Sec-WebSocket-Version",
}

// appendCustomary is appendField for a field that came over HTTP/2 or 3, which know lower case alone: it writes the name as HTTP/1.1 clients do.
// Names have no case, but the servers of management controllers and microcontrollers compare them byte by byte, and see such clients only
// behind a proxy.
func appendCustomary(b []byte, name, value string) []byte {
	if len(name) > 0 && (name[0] == 'd' || name[0] == 's' || name[0] == 't') {
		if written, ok := irregular[name]; ok {
			return appendField(b, written, value)
		}
	}

	start := len(b)
	b = appendField(b, name, value)
	if strings.ContainsFunc(name, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return b // a rule's, or padlock's own
	}
	for word := b[start : start+len(name)]; len(word) > 0; {
		if 'a' <= word[0] && word[0] <= 'z' {
			word[0] -= 'a' - 'A'
		}
		next := bytes.IndexByte(word, '-')
		if next < 0 {
			break
		}
		word = word[next+1:]
	}
	return b
}
