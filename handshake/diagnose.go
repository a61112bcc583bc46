package handshake

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"

	"padlock/handshake/wire"
)

// rule is a row of the diagnosis table: what was seen, and what it means. The first that matches speaks.
type rule struct {
	by      Side
	alert   int    // -1: no alert
	goError string // part of crypto/tls's text; "" matches all

	cause, remedy, confidence string
}

const noAlert = -1

var rules = []rule{
	{Client, 48, "", "the client does not trust the CA that issued our certificate", "install the CA on the client: padlock trust (for other devices: padlock trust --print), or send the full chain", "certain"},
	{Client, 46, "", "the client rejected our certificate: untrusted, expired, or for another name", "check its dates and names, and install the CA on the client: padlock trust", "likely"},
	{Client, 42, "", "the client could not verify our certificate", "check that its names include the one asked for, its dates, and that the client trusts the CA: padlock trust", "likely"},
	{Client, 45, "", "our certificate has expired, or the client's clock is wrong", "renew the certificate; if it is valid, set the client's clock", "likely"},
	{Client, 43, "", "the client cannot use a certificate of this type", "offer a certificate with another key type", "likely"},
	{Client, 44, "", "the client says that our certificate is revoked", "replace the certificate", "certain"},
	{Client, 70, "", "the client refuses the protocol version", "compare the versions in its hello with tls.min_version", "likely"},
	{Client, 40, "", "the client found nothing acceptable in our answer", "compare its hello with our policy", "possible"},
	{Client, 47, "", "the client says that we sent something illegal", "capture the handshake and report it", "possible"},
	{Client, 51, "", "the client could not verify a signature of ours", "check that certificate and key belong together", "possible"},
	{Client, 80, "", "the client failed internally", "look into the client's own log", "possible"},
	{Client, 90, "", "the user cancelled", "nothing, unless it was not the user", "likely"},
	{Client, 0, "", "the client closed the connection politely before it was done", "none, unless it repeats", "possible"},
	{Server, 70, "", "the client offers only protocol versions that we do not accept", "upgrade the client, or lower tls.min_version", "certain"},
	{Server, 120, "", "no application protocol in common", "let the client offer h2 or http/1.1 by ALPN", "certain"},
	{Server, 112, "", "no certificate for the name that the client asked for", "add the name to a site, or a certificate for it", "certain"},
	{Server, 40, "no cipher suite", "no cipher suite in common, or the client cannot use our certificate's key type", "upgrade the client, or add an RSA certificate", "certain"},
	{Server, 40, "no key exchange", "no key-exchange group in common", "let the client offer X25519 or P-256", "certain"},
	{Server, 40, "signature", "the client supports no signature algorithm of our certificate's key", "add a certificate with another key type", "certain"},
	{Server, 40, "certificate", "the client showed no certificate, and this site requires one", "configure a client certificate from an accepted CA", "certain"},
	{Server, 116, "", "the client showed no certificate, and this site requires one", "configure a client certificate from an accepted CA", "certain"},
	{Server, 48, "", "the client's certificate is from a CA that this site does not accept", "add its CA to tls.client_auth.ca, or use another certificate", "certain"},
	{Server, 45, "", "the client's certificate has expired, or our clock is wrong", "renew it; check the clock", "likely"},
	{Server, 42, "", "the client's certificate could not be verified", "check its dates, its chain and its extended key usage (clientAuth)", "likely"},
	{Server, 86, "", "the client retried with a lower version after a failure", "find out why its first attempt failed", "likely"},
	{Server, 110, "early data", "the client holds an early-data ticket of another server", "disable early data there first, or wait until the ticket expires", "certain"},
	{Server, 110, "", "the client sent an extension that does not belong there", "update the client", "possible"},
	{Server, 20, "", "a record could not be decrypted: corruption, a middlebox, or a faulty client", "try without the middlebox; capture the connection", "possible"},
	{Server, 22, "", "that is not TLS, or it was corrupted on its way", "check what the client speaks on this port", "likely"},
	{Server, 51, "", "a signature or a ticket binder of the client does not verify", "clear the client's sessions; check its key", "possible"},
	{Server, 50, "", "the client sent a message that does not parse", "update the client, or find the middlebox that changes its messages", "likely"},
	{Server, 47, "", "the client sent something that the protocol forbids", "update the client", "likely"},
	{Server, 10, "", "the client sent a message out of turn", "update the client, or find the middlebox that changes its messages", "likely"},
	{Server, 109, "", "the client left out a required extension", "update the client", "likely"},
	{Server, 80, "", "something failed on our side", "read the error: it names the certificate source's own", "certain"},
}

// diagnose says who ended a handshake, where, why, and what to do; nil if it was complete.
func diagnose(d *dissector) *Failure {
	if d.event.Outcome == Complete {
		return nil
	}
	f := &Failure{Stage: d.lastStage(), Alert: noAlert}
	if d.err != nil {
		f.GoError = Escape(d.err.Error())
	}
	switch {
	case d.kind != "":
		f.By, f.Confidence = Server, "certain"
		f.Cause, f.Remedy = "the client spoke "+kindText(d.kind)+" on a TLS port", kindRemedy(d.kind)
	case d.wireAlert(f) || d.silentRejection(f) || d.textAlert(f):
	default:
		d.withoutAlert(f)
	}
	return f
}

// wireAlert looks at the alerts that were read off the wire: they outrank what crypto/tls says.
func (d *dissector) wireAlert(f *Failure) bool {
	if len(d.alerts) == 0 || d.event.Outcome != Failed {
		return false
	}
	a := d.alerts[0]
	f.Encrypted = a.encrypted
	f.apply(a.from, int(a.alert.Description))
	return true
}

// textAlert is for alerts under application keys, which we do not hold: there crypto/tls's text is all there is.
func (d *dissector) textAlert(f *Failure) bool {
	text := f.GoError
	switch {
	case strings.Contains(text, "client didn't provide a certificate"):
		f.apply(Server, 116)
	case strings.Contains(text, "failed to verify certificate") && strings.Contains(text, "expired"):
		f.apply(Server, 45)
	case strings.Contains(text, "failed to verify certificate") && strings.Contains(text, "unknown authority"):
		f.apply(Server, 48)
	case strings.Contains(text, "failed to verify certificate"):
		f.apply(Server, 42)
	case strings.Contains(text, "bad record MAC"):
		f.apply(Server, 20)
	default:
		return false
	}
	f.Encrypted = true
	return true
}

// apply finds the row for an alert; f.GoError chooses among rows of one alert.
func (f *Failure) apply(by Side, alert int) {
	f.By, f.Alert, f.AlertName = by, alert, wire.AlertName(byte(alert))
	for _, r := range rules {
		if r.by == by && r.alert == alert && strings.Contains(f.GoError, r.goError) {
			f.Cause, f.Remedy, f.Confidence = r.cause, r.remedy, r.confidence
			return
		}
	}
	f.Cause, f.Remedy, f.Confidence = "the "+string(by)+" sent the alert "+f.AlertName, "look up the alert in RFC 8446 section 6", "possible"
}

// silentRejection is a handshake that was complete, and then nothing: a client that rejects a certificate after Finished,
// such as curl with a wrong name, or one that connected in advance and had no use for it.
func (d *dissector) silentRejection(f *Failure) bool {
	if d.event.Outcome != Silent {
		return false
	}
	f.By, f.Confidence = Client, "possible"
	f.Cause = "the client closed after a complete handshake: it rejected the certificate's name, connected in advance, or only probed"
	f.Remedy = "compare the name asked for with the certificate's names; ignore it if another connection served the page"
	if d.readErr == nil {
		return true
	}
	text := d.readErr.Error()
	for number := range 256 {
		alert := tls.AlertError(number)
		if number != 0 && strings.Contains(text, "remote error: "+alert.Error()) {
			f.apply(Client, number)
			f.Encrypted, f.GoError = true, Escape(text)
			return true
		}
	}
	return true
}

// withoutAlert judges by how far it came and how it ended.
func (d *dissector) withoutAlert(f *Failure) {
	answered := len(d.arena.out) > 0
	timeout := errors.Is(d.err, os.ErrDeadlineExceeded) || strings.Contains(f.GoError, "deadline exceeded") || strings.Contains(f.GoError, "closed network connection")
	reset := errors.Is(d.err, syscall.ECONNRESET)
	f.By, f.Confidence = Client, "likely"
	switch {
	case timeout:
		f.By = Server
		f.Cause, f.Remedy = "the client did not go on within the handshake timeout", "check the path for packet loss and MTU; many of these from one address are an attack"
	case len(d.arena.in) == 0:
		f.Cause, f.Remedy = "connected and left without a byte: a health check or a port scan", "nothing; let the health check speak TLS if you want it quiet"
	case !answered && d.hello == nil:
		f.Cause, f.Remedy = "the client left in the middle of its hello", "check the path: a middlebox or MTU may drop large hellos"
		f.Confidence = "possible"
	case answered && reset:
		f.Cause, f.Remedy = "the connection was reset after our answer: a silent rejection, or a firewall", "check that the client trusts the CA: padlock trust; compare with a client that works"
		f.Confidence = "possible"
	case answered && (errors.Is(d.err, io.EOF) || d.eof):
		f.Cause, f.Remedy = "the client left after our answer without saying why, as clients do that reject a certificate silently", "check the certificate's names, and that the client trusts the CA: padlock trust"
	default:
		f.Cause, f.Remedy = "the handshake ended early", "read the error"
		f.Confidence = "possible"
	}
}

func (d *dissector) lastStage() string {
	last := "tcp_accept"
	for _, s := range d.event.Stages {
		if s.Name != "alert" && s.Name != "close" && s.Name != "new_session_ticket" {
			last = s.Name
		}
	}
	return last
}

func kindText(kind string) string {
	switch kind {
	case "http":
		return "plain HTTP"
	case "h2c":
		return "HTTP/2 without TLS"
	case "ssh":
		return "SSH"
	case "proxy":
		return "the PROXY protocol"
	case "sslv2":
		return "SSL 2.0"
	}
	return "an unknown protocol"
}

func kindRemedy(kind string) string {
	switch kind {
	case "http", "h2c":
		return "use https:// (padlock has answered with a redirect if it was HTTP/1.1)"
	case "proxy":
		return "turn the PROXY protocol off at the load balancer"
	case "sslv2":
		return "nothing: an ancient client, or a scanner"
	}
	return "check what is meant to connect to this port"
}
