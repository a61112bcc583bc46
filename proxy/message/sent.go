package message

// Sent yields the fields of a response, be it final, interim or a tunnel's, as every front sends them: without
// Content-Length, which ResponseLength decides, and without what speaks of one connection (RFC 9110 sections 7.6.1 and
// 8.6).
func (f Fields) Sent(yield func(name, value string) bool) {
	for i := range f {
		name := f[i].Name
		if !Is(name, "Content-Length") && !OfOneConnection(name) && !yield(name, f[i].Value) {
			return
		}
	}
}

// ResponseLength decides for every front what a final response says of its content's length, -1 being nothing, and
// whether none follows its head (RFC 9110 sections 6.4.1 and 8.6). fields are the response's, length is that of the
// content, -1 where it is not known.
//
// A 304 says nothing, though it may: what it stands for is not sent, and some clients wait for it.
func ResponseLength(method string, status int, fields Fields, length int64) (announced int64, bodiless bool) {
	switch {
	case status < 200 || status == 204 || status == 304:
		return -1, true
	case method != "HEAD":
		return length, false
	}
	// The field speaks of the content that a GET would bring.
	if n, ok := Decimal(fields.Value("Content-Length")); ok {
		return n, true
	}
	return length, true
}

// CheckAccept reports ErrAccept where a target has answered a WebSocket's handshake without reading its key, and the
// client, by HTTP/2 or 3, cannot find out. Sec-WebSocket-Accept has no meaning there and is not sent on (RFC 8441
// section 5, RFC 9220).
func CheckAccept(r *Request, response Fields) error {
	if r.Upgrade == "websocket" && response.Value(acceptField) != WebSocketAccept(r.Fields.Value("Sec-WebSocket-Key")) {
		return ErrAccept
	}
	return nil
}

const acceptField = "Sec-WebSocket-Accept"

// SentExtended is Sent for the answer to an extended CONNECT.
func (f Fields) SentExtended(yield func(name, value string) bool) {
	for name, value := range f.Sent {
		if !Is(name, acceptField) && !yield(name, value) {
			return
		}
	}
}
