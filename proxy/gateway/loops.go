package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"padlock/proxy/message"
)

// loopField names the proxies that have forwarded a request (RFC 8586). Via would name them too (RFC 9110 section
// 7.6.3), but servers such as nginx do not compress what goes through a proxy that Via names.
const loopField = "CDN-Loop"

// maxPasses is how often a request may go through one padlock. A few times are a site whose target is another site
// here, or an app that forwards to one; more are a circle, which would go on until nothing is left to forward with.
const maxPasses = 8

// newSelf is a name for this padlock that no other has, so that a chain of several padlocks is no circle.
func newSelf() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // which never fails
	return "padlock-" + hex.EncodeToString(id[:])
}

// noLoop refuses requests whose target, by whatever way, sends them back here time and again.
func (h *Gateway) noLoop(_ *message.Context, x *Exchange) error {
	if x.passes(h.self) < maxPasses {
		return nil
	}

	return status(508, "This request goes in a circle: what padlock forwards for "+x.request.Host+" comes back to padlock under the same name. "+
		"An application that forwards requests to another one has to send that one's name in the Host header (changeOrigin: true in many development servers)")
}

// passes is how often the request had gone through this padlock when it came.
func (x *Exchange) passes(self string) int {
	n := 0
	for _, field := range x.request.Fields {
		if message.Is(field.Name, loopField) {
			n += strings.Count(field.Value, self)
		}
	}
	// What the target gets names padlock once more.
	if x.named {
		n--
	}
	return n
}
