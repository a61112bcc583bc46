package handshake

import (
	"errors"
	"io"
	"slices"
	"strings"

	"padlock/handshake/wire"
)

// Kinds of noise that browsers make.
const (
	// A connection that a browser opened in advance, and closed in the middle of its handshake.
	spareNoise   = "spare"
	privateNoise = "http3_private" // HTTP/3, which browsers use with public CAs alone
)

// judgeUnused recognizes connections that a browser opens in advance and closes unused: nothing has failed. Browsers
// verify a certificate before they send Finished, and reject one with an alert; a browser that closes without an alert
// had no use for the connection.
func (d *dissector) judgeUnused() {
	if d.side != Server || d.kind != "" || !browser(d.hello) || !d.withoutObjection() {
		return
	}
	e := d.event
	switch {
	case e.Outcome == Silent:
		e.Outcome, e.Unused = Complete, true
	// With a certificate that browsers refuse, the same end is most likely a rejection, and is diagnosed as one.
	case e.Outcome == Failed && d.gone() && !unbrowsable(d):
		e.Outcome, e.Unused, e.Noise = Unused, true, spareNoise
	}
}

// withoutObjection reports whether no alert was sent but those that say goodbye.
func (d *dissector) withoutObjection() bool {
	if d.readErr != nil && strings.Contains(d.readErr.Error(), "remote error") {
		return false
	}
	// Firefox sends user_canceled before close_notify when it drops a connection.
	return !slices.ContainsFunc(d.alerts, func(a seenAlert) bool {
		return a.from != Client || a.alert.Description != closeNotify && a.alert.Description != userCanceled
	})
}

const (
	closeNotify  = 0
	userCanceled = 90
)

// gone reports whether it was the client that ended the connection, and nothing of ours.
func (d *dissector) gone() bool {
	// A record that did not open may have been an alert, so nothing can be said about it.
	if d.err == nil || d.undecrypted || d.timedOut() {
		return false
	}
	return errors.Is(d.err, io.EOF) || errors.Is(d.err, io.ErrUnexpectedEOF) || strings.Contains(d.err.Error(), "connection reset")
}

// judgeUnusedQUIC does the same for QUIC, and recognizes browsers that reject over HTTP/3 what they accept over TCP: if
// they do not trust the CA at all, the connection by TCP that follows says so.
func (d *dissector) judgeUnusedQUIC(hello *wire.ClientHello, end QUICEnd) {
	if !browser(hello) || unbrowsable(d) {
		return
	}
	e := d.event
	c := e.Certificate
	switch {
	// What we ended ourselves says nothing about the browser.
	case end.By != Client || end.Timeout:
	case c != nil && c.local() && (rejects(end.Alert) || end.Alert < 0 && e.Outcome == Failed):
		// Firefox closes such a connection without an alert.
		e.Outcome, e.Unused, e.Noise = Unused, true, privateNoise
	case end.Alert < 0 && e.Outcome == Silent:
		e.Outcome, e.Unused = Complete, true
	}
}

// rejects reports whether an alert is about a certificate: bad_certificate to certificate_unknown, and unknown_ca.
func rejects(alert int) bool { return alert >= 42 && alert <= 46 || alert == 48 }

// unusedNote says why nothing failed.
func unusedNote(e *Event) string {
	switch {
	case e.Noise == privateNoise:
		return "browsers use HTTP/3 only with public CAs; the page is served over HTTP/2"
	case e.Outcome == Unused:
		return "a browser opened this connection in advance, and closed it before the handshake was complete, as it had no use for it"
	}
	return "a browser opened this connection in advance, and had no use for it"
}
