package http1

// appendCustomary is appendField for a field that came over HTTP/2 or 3, which know lower case alone: it writes the
// name as HTTP/1.1 clients do. Names have no case, but the servers of management controllers and microcontrollers
// compare them byte by byte, and see such clients only behind a proxy.
func appendCustomary(b []byte, name, value string) []byte {
	if written := irregular(name); written != "" {
		return appendField(b, written, value)
	}

	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' {
			return appendField(b, name, value) // a rule's, or padlock's own
		}
	}

	start := len(b)
	b = appendField(b, name, value)
	first := true
	for i := start; i < start+len(name); i++ {
		if first && 'a' <= b[i] && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
		first = b[i] == '-'
	}

	return b
}

// irregular is a name that HTTP/1.1 clients write with more capitals than the first of each word, or "".
func irregular(name string) string {
	switch name {
	case "dnt":
		return "DNT"
	case "sec-gpc":
		return "Sec-GPC"
	case "sec-websocket-extensions":
		return "Sec-WebSocket-Extensions"
	case "sec-websocket-key":
		return "Sec-WebSocket-Key"
	case "sec-websocket-protocol":
		return "Sec-WebSocket-Protocol"
	case "sec-websocket-version":
		return "Sec-WebSocket-Version"
	case "soapaction":
		return "SOAPAction"
	case "te":
		return "TE"
	}
	return ""
}
