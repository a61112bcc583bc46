package gateway

import (
	"errors"
	"io"
	"strings"

	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// extended reports whether the client asks for a tunnel by CONNECT (RFC 8441, RFC 9220). Any 2xx would tell it that it
// has one.
func (x *Exchange) extended() bool { return x.request.Upgrade != "" && x.request.Proto != "HTTP/1.1" }

// maxUpgradeContent is how much content a request for an upgrade may have: it has to end before the other protocol
// begins, and what comes with docker exec is a few dozen bytes.
const maxUpgradeContent = 64 << 10

// upgrade chooses what the client goes over to, and refuses every upgrade that the route does not name. A WebSocket's
// is by GET without content (RFC 6455 section 4.1); what others are is between the client and the target. By HTTP/2 and
// 3, an upgrade can be a WebSocket's only.
func upgrade(_ *message.Context, x *Exchange) error {
	r := x.request
	if r.Upgrade == "" {
		return nil
	}
	if x.extended() && (r.Upgrade != sites.WebSocket || !x.route.UpgradesTo(sites.WebSocket)) {
		// The status for a :protocol that the server does not support (RFC 9220 section 3).
		return status(501, "This protocol is not forwarded here")
	}

	offered := r.Upgrade
	r.Upgrade = x.route.UpgradeAmong(offered)
	if r.Upgrade == sites.WebSocket && (r.Method != "GET" || r.Body != nil) {
		// Several values are one offer of several protocols, and no handshake for one.
		if strings.Contains(offered, ",") {
			r.Upgrade = ""
			return nil
		}
		return status(400, "This upgrade cannot be forwarded: only WebSocket, by GET without a body")
	}

	return nil
}

// noTunnel refuses to open a WebSocket where there is no target: a 2xx would tell the client that it has one.
func noTunnel(_ *message.Context, x *Exchange) error {
	if x.extended() {
		return status(501, "There is no WebSocket here")
	}
	return nil
}

// wholeContent reads the content of a request for an upgrade: the bytes that follow it are of another protocol.
func (h *Gateway) wholeContent(ctx *message.Context, x *Exchange) error {
	r := x.request
	if r.Upgrade == "" || r.Body == nil {
		return nil
	}
	// One byte more than is allowed tells content of exactly that size from content that is too large.
	data, err := io.ReadAll(io.LimitReader(r.Body, maxUpgradeContent+1))
	if err != nil {
		return h.failed(ctx, x, &message.BodyError{Err: err})
	}
	if len(data) > maxUpgradeContent {
		return status(413, "The content of a request for another protocol is too large")
	}

	r.Body, r.ContentLength = &bufferedBody{Body: r.Body, data: data, err: io.EOF}, int64(len(data))
	r.Declared, r.Expect = nil, false
	return nil
}

// notOpen is for a client whose target has not opened what it says that it has.
func notOpen(err error) *StatusError {
	return &StatusError{Status: 502, Text: "The application behind this address did not open the WebSocket", Cause: "target: " + err.Error()}
}

var errNotOpen = errors.New("it answered a WebSocket's handshake as if it were a request like any other")

// mistaken reports whether a response would look to the client like a tunnel, and is none.
func mistaken(x *Exchange, response *message.Response) bool {
	return x.extended() && response.Tunnel == nil && response.Status/100 == 2
}
