package proxy

import (
	"errors"
	"io"
	"strings"

	"padlock/proxy/message"
)

// extended reports whether the client asks for a tunnel by CONNECT (RFC 8441, RFC 9220). Any 2xx would tell it that it has one.
func (x *exchange) extended() bool { return x.request.Upgrade != "" && x.request.Proto != "HTTP/1.1" }

const webSocket = "websocket"

// maxUpgradeContent is how much content a request for an upgrade may have: it has to end before the other protocol begins, and what comes with
// docker exec is a few dozen bytes.
const maxUpgradeContent = 64 << 10

// upgrade chooses what the client goes over to, refuses every upgrade that the route does not name, and reports whether the request may be
// forwarded. A WebSocket's is by GET without content (RFC 6455 section 4.1); what others are is between the client and the target. By HTTP/2
// and 3, an upgrade can be a WebSocket's only.
func upgrade(x *exchange) bool {
	r := x.request
	if r.Upgrade == "" {
		return true
	}
	if x.extended() && (r.Upgrade != webSocket || !x.route.upgradesTo(webSocket)) {
		fail(x, 501, "This protocol is not forwarded here", "") // RFC 9220 section 3
		return false
	}

	offered := r.Upgrade
	r.Upgrade = x.route.upgradeAmong(offered)
	if r.Upgrade == webSocket && (r.Method != "GET" || r.Body != nil) {
		if strings.Contains(offered, ",") { // it is one offer of several, and no handshake
			r.Upgrade = ""
			return true
		}
		fail(x, 400, "This upgrade cannot be forwarded: only WebSocket, by GET without a body", "")
		return false
	}
	return true
}

// readWhole reads the content of a request for an upgrade: the bytes that follow it are of another protocol. It reports false where that is
// too much.
func (x *exchange) readWhole() (whole bool, err error) {
	r := x.request
	data, err := io.ReadAll(io.LimitReader(r.Body, maxUpgradeContent+1))
	if err != nil {
		return false, &message.BodyError{Err: err}
	}
	if len(data) > maxUpgradeContent {
		return false, nil
	}
	r.Body, r.ContentLength = &bufferedBody{Body: r.Body, data: data, err: io.EOF}, int64(len(data))
	r.Declared, r.Expect = nil, false
	return true, nil
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
