package proxy

import (
	"errors"

	"padlock/proxy/message"
)

// extended reports whether the client asks for a tunnel by CONNECT (RFC 8441, RFC 9220). Any 2xx would tell it that it has one.
func (x *exchange) extended() bool { return x.request.Upgrade != "" && x.request.Proto != "HTTP/1.1" }

// upgrade refuses every upgrade but a WebSocket's, and reports whether the request may be forwarded.
func upgrade(x *exchange) bool {
	r := x.request
	switch {
	case r.Upgrade == "":
	case r.Upgrade != "websocket" && x.extended():
		fail(x, 501, "This protocol is not forwarded: only WebSocket", "") // RFC 9220 section 3
		return false
	case r.Upgrade != "websocket":
		r.Upgrade = "" // h2c and the like: ignored, as RFC 9110 section 7.8 allows
	case r.Method != "GET" || r.Body != nil:
		fail(x, 400, "This upgrade cannot be forwarded: only WebSocket, by GET without a body", "")
		return false
	}
	return true
}

// failTunnel answers a client whose target has not opened what it says that it has.
func failTunnel(x *exchange, err error) {
	x.err = "target: " + err.Error()
	fail(x, 502, "The application behind this address did not open the WebSocket", "")
}

var errNotOpen = errors.New("it answered a WebSocket's handshake as if it were a request like any other")

// mistaken reports whether a response would look to the client like a tunnel, and is none.
func mistaken(x *exchange, response *message.Response) bool {
	return x.extended() && response.Tunnel == nil && response.Status/100 == 2
}
