package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"padlock/handshake/wire"
)

// diagnose says who ended a handshake, where, why, and what to do; nil if it was complete.
func diagnose(d *dissector) *Failure {
	if d.event.Outcome == Complete || d.event.Outcome == Unused {
		return nil
	}

	f := &Failure{Stage: d.lastStage(), Alert: noAlert}
	// Deferred, as each of the branches below may leave the kind to the cause.
	defer f.classify()
	if d.err != nil {
		f.GoError = Escape(d.err.Error())
	}

	if d.side == Client {
		d.diagnoseServer(f)
		return f
	}

	switch {
	case d.kind != "":
		d.notTLS(f)
	// From certain to possible: what our own code decided, what the wire showed, what happened afterwards, and only
	// then the text of crypto/tls.
	case d.weRefused(f) || d.wireAlert(f) || d.afterwards(f) || d.textAlert(f):
	default:
		d.withoutAlert(f)
	}

	return f
}

// classify takes the cause for its kind where it says nothing of one client.
func (f *Failure) classify() {
	if f.Kind == "" {
		f.Kind = f.Cause
	}
}

// conclude fills in a verdict. The detail belongs to one client alone.
func (f *Failure) conclude(by Side, confidence, cause, detail, remedy string) bool {
	f.By, f.Confidence, f.Kind, f.Cause, f.Remedy = by, confidence, cause, cause, remedy
	if detail != "" {
		f.Cause += ": " + detail
	}
	return true
}

// weRefused is what our own code says about an end that it has made.
func (d *dissector) weRefused(f *Failure) bool {
	return d.refused != "" && f.conclude(Server, "certain", Escape(d.refused), Escape(d.refusedDetail), Escape(d.refusedRemedy))
}

// wireAlert looks at the alerts that were read off the wire: they outrank what crypto/tls says.
func (d *dissector) wireAlert(f *Failure) bool {
	if d.event.Outcome != Failed {
		return false
	}
	for _, a := range d.alerts {
		if a.alert.Description == 0 && len(d.alerts) > 1 {
			// Clients send close_notify behind the alert that counts.
			continue
		}
		f.Encrypted = a.encrypted
		d.apply(f, rules, a.from, int(a.alert.Description))
		return true
	}
	return false
}

// textAlert is for alerts under keys that we do not hold: there crypto/tls's text is all there is.
func (d *dissector) textAlert(f *Failure) bool {
	by, alert, ok := alertOf(d.err)
	if !ok {
		return false
	}
	d.apply(f, rules, by, alert)
	f.Encrypted = true
	return true
}

// texts are what crypto/tls says instead of the name of an alert that it sends.
var alertTexts = []struct {
	text  string
	alert int
}{
	{"didn't provide a certificate", 116},
	{"invalid signature by the client certificate", 51},
	{"client certificate used with invalid signature algorithm", 47},
	{"client certificate contains an unsupported public key", 43},
	{"failed to parse client certificate", 50},
	{"invalid client finished hash", 51},
	{"failed to verify certificate", 42},
	{"received unexpected handshake message", 10},
	{"bad record MAC", 20},
	{"oversized record received", 22},
	{"received record with version", 70},
}

// alertOf is the alert that an error of crypto/tls stands for, and who sent it.
func alertOf(err error) (by Side, alert int, ok bool) {
	var (
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
	)
	// crypto/tls returns errors of x509 without saying which alert it has sent for them.
	switch {
	case err == nil:
		return "", 0, false
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Server, 45, true
	case errors.As(err, &unknown):
		return Server, 48, true
	}

	// crypto/tls exports neither the alert nor its sender, so the text has to do.
	text := err.Error()
	for _, sender := range [...]struct {
		side   Side
		before string
	}{{Client, "remote error: "}, {Server, "local error: "}} {
		// One alert's name may begin another's, so the longest match counts.
		longest := 0
		for number := range 256 {
			name := tls.AlertError(number).Error()
			if len(name) > longest && strings.Contains(text, sender.before+name) {
				by, alert, ok, longest = sender.side, number, true, len(name)
			}
		}

		if ok {
			return by, alert, true
		}
	}

	for _, known := range alertTexts {
		if strings.Contains(text, known.text) {
			return Server, known.alert, true
		}
	}

	return "", 0, false
}

// apply finds the row for an alert.
func (d *dissector) apply(f *Failure, table []rule, by Side, alert int) {
	f.Alert, f.AlertName = alert, wire.AlertName(byte(alert))
	for _, r := range table {
		if r.by != by || r.alert != alert || r.when != nil && !r.when(d) {
			continue
		}

		detail := ""
		if r.detail != nil {
			detail = r.detail(d)
		}
		f.conclude(by, r.confidence, r.cause, detail, r.remedy(d))
		return
	}
	// An alert without a row in the table is still shown with its name, which can be searched for.
	f.conclude(by, "possible", "the "+string(by)+" sent an alert that is rare", f.AlertName, "see what it means: padlock explain "+f.AlertName)
}

// afterwards is a handshake that was complete, and then nothing of use: a client that rejects a certificate only then,
// one that connected in advance, or an end that we have made.
func (d *dissector) afterwards(f *Failure) bool {
	if d.event.Outcome != Silent {
		return false
	}

	if d.readErr != nil {
		text := Escape(d.readErr.Error())
		if by, alert, ok := alertOf(d.readErr); ok {
			d.apply(f, rules, by, alert)
			// bad_record_mac after a complete handshake cannot be about keys, as those have been checked by
			// Finished.
			if by == Server && alert == 20 {
				f.Cause = "the client's first data after the handshake could not be decrypted: it was corrupted on its way, or the client is faulty"
			}
			f.Encrypted, f.GoError = true, text
			return true
		}

		// Other errors of reading are the connection's, and are judged below like any end.
		if strings.HasPrefix(d.readErr.Error(), "tls: ") {
			f.GoError = text
			return f.conclude(Server, "likely", "the client's first data after the handshake breaks the rules of TLS", goDetail(d), "update the client; try without what stands between")
		}
	}

	if d.partial() {
		return f.conclude(Client, "likely", "the client's first data after the handshake did not come whole: it gave up or was stopped, or something between cut the connection", "", clientLog(d)+"; "+remedyBetween)
	}

	// A timeout of ours must not be blamed on the client's view of our certificate.
	if d.weClosed() && !d.unread() {
		return f.conclude(Server, "certain", "the client sent nothing after a complete handshake, and padlock closed the connection (timeouts.idle, its own end, or that of a TCP site's target)", d.listens(),
			"nothing: clients connect in advance; "+remedyListens)
	}

	d.silent(f)
	return true
}

// weClosed reports whether it was not the client that ended a connection on which nothing came: a client's end is read,
// and leaves an error. A connection that is parked is closed without having been read from. QUIC says itself who has
// closed.
func (d *dissector) weClosed() bool {
	if d.ended() || d.reset() || d.event.QUIC {
		return false
	}
	return d.readErr == nil || errors.Is(d.readErr, os.ErrDeadlineExceeded) || errors.Is(d.readErr, net.ErrClosed)
}

// spare reports whether a browser has trusted our certificate, be it on another connection or in the session that it
// resumed, and so has only had no use for this one.
func (d *dissector) spare() bool {
	return d.trusted || d.event.Certificate == nil && d.event.Resumed && browser(d.hello)
}

// silent is a client that has closed after a complete handshake, without a byte of data that was read.
func (d *dissector) silent(f *Failure) {
	const closed = "the client closed after a complete handshake, before it sent anything"
	c := d.event.Certificate
	switch {
	// Data means that the certificate was accepted, so this is looked at before all doubts about it.
	case d.unread():
		f.conclude(Client, "likely", "the client accepted our certificate and sent data, and the connection ended before padlock had read it: it gave up, or one side was stopped", "", clientLog(d))
	case d.spare():
		f.conclude(Client, "likely", closed+": a connection in advance that it did not need, as it has used others like this one", "", "nothing")
	case c == nil:
		// The session is resumed: the client accepted the certificate at an earlier time.
		f.conclude(Client, "possible", closed+", on a session that it resumed: it connected in advance, only probed, or gave up", "", "nothing, unless the client reports an error: padlock explain \"TEXT\"")
	// Only a certificate with a fault is a likely reason. A faultless one leaves several, and the verdict says so.
	case faulty(d), missesStaple(d):
		f.conclude(Client, "likely", closed+", because it rejected our certificate (less likely: it only probed, or was stopped)", problem(d), certificateRemedy(d))
	case externalPSK(d):
		f.conclude(Client, "possible", closed+": it offered a pre-shared key, which padlock does not take, and may accept no certificate instead; or "+distrust(d)+", or only probed", doubt(d),
			"turn the pre-shared key off at the client; see its own error (padlock explain \"TEXT\"); "+distrustRemedy(d))
	// A rejection comes within milliseconds. A client that waits first has other reasons.
	case d.waited() && d.speaksHTTP():
		f.conclude(Client, "possible", "the client waited and closed after a complete handshake, and sent nothing: it connected in advance, asked a person about our certificate, only probed, or was stopped", doubt(d),
			"nothing, unless the client reports an error: padlock explain \"TEXT\"")
	case d.waited():
		f.conclude(Client, "possible", "the client waited and closed after a complete handshake, and sent nothing: it waits for the server to speak first (IMAP, POP3, SMTP, FTP and others), connected in advance, asked a person about our certificate, only probed, or was stopped", d.listens(),
			"nothing for a probe; "+remedyListens+"; if the client reports an error: padlock explain \"TEXT\"")
	default:
		why := ": " + distrust(d) + " (wget, git, ldapsearch and others say so only then), expects another name or key (a pin), wants a stronger key or a revocation status, has a wrong clock, gave up or was stopped, or only probed or connected in advance"
		if d.reset() {
			why = ": it gave up or was stopped (its reset takes along what it had just sent); " + distrust(d) + " (wget, git, ldapsearch and others say so only then), expects another name or key (a pin), wants a stronger key or a revocation status, has a wrong clock, or only probed"
		}
		f.conclude(Client, "possible", closed+why, doubt(d), "see the client's own error (padlock explain \"TEXT\"); a pin has to be set anew; "+distrustRemedy(d))
	}
}

const remedyBetween = "try without what stands between (proxy, antivirus, firewall)"

const remedyListens = "if a program waits for the server to speak first, use its server's port, or give this one a TCP site (sites[].tcp)"

// listens says what makes it likely that a client waits for the server's greeting; "" if nothing does.
func (d *dissector) listens() string {
	if name := d.greeting(); name != "" {
		return "this is the port of " + name
	}
	if d.hello != nil && len(d.hello.ALPN) == 0 {
		return "it names no protocol (ALPN), as mail programs do, and browsers do not"
	}
	return ""
}

// unread reports whether a client has sent data after a complete handshake for which nobody has asked crypto/tls: it
// would have come before any error.
func (d *dissector) unread() bool { return d.clientData && d.readErr == nil }

// partial reports whether what the client has sent ends in the middle of a record.
func (d *dissector) partial() bool {
	records, ok := wire.Records(nil, d.in)
	whole := 0
	if len(records) > 0 {
		whole = records[len(records)-1].End()
	}
	return ok && !d.truncated && whole > 0 && len(d.in) > whole
}

// speaksHTTP reports whether a client offers a protocol in which it is the first to speak.
func (d *dissector) speaksHTTP() bool {
	return d.hello != nil && slices.ContainsFunc(d.hello.ALPN, func(p string) bool { return p == "h2" || p == "http/1.1" || p == "http/1.0" || p == "h3" })
}

// patience is how long a program takes at most to reject a certificate, but for the network; who takes longer waits for
// something.
const patience = time.Second

// waited reports whether a client has let time pass between our last word and its end.
func (d *dissector) waited() bool {
	since, end := d.done, d.trace.end
	// An error is the end of a handshake that was not complete.
	if d.err != nil {
		since, end = 0, d.done
		for _, s := range d.segments[:d.count] {
			if s.fromServer {
				since = s.at
			}
		}
	}
	// Two round trips: one for our last message on its way out, one for the client's end on its way back.
	return since > 0 && end-since > patience+2*d.event.Timings.RoundTrip
}

// timedOut reports whether it was our own deadline that ended the handshake.
func (d *dissector) timedOut() bool {
	if d.err == nil {
		return false
	}
	text := d.err.Error()
	// crypto/tls wraps some errors by their text alone.
	return errors.Is(d.err, os.ErrDeadlineExceeded) || strings.Contains(text, "deadline exceeded") || strings.Contains(text, "i/o timeout")
}

// cutOff reports whether our side closed the connection while the handshake went on, for another reason than its
// deadline.
func (d *dissector) cutOff() bool {
	return d.err != nil && (errors.Is(d.err, net.ErrClosed) || strings.Contains(d.err.Error(), "closed network connection"))
}

// withoutAlert judges by how far it came and how it ended.
func (d *dissector) withoutAlert(f *Failure) {
	answered := len(d.out) > 0
	switch {
	// Our own ends come first. The client's behavior only explains ends that it has made.
	case d.timedOut() && answered:
		d.unanswered(f)
	case d.timedOut():
		d.slow(f)
	case d.cutOff():
		f.conclude(Server, "likely", "padlock closed the connection before the handshake was over: more handshakes at once than limits.handshakes, or its own end", "",
			"nothing, if padlock was stopped; else see its log for who connects so often, or raise limits.handshakes")
	case len(d.in) == 0 && d.reset():
		f.conclude(Client, "likely", "connected and reset without a byte: a port scan or a health check", "", "nothing; let the health check speak TLS if you want it quiet")
	case len(d.in) == 0:
		d.mute(f)
	case !answered && d.hello == nil:
		d.halfHello(f)
	// A second hello never came: the client does not know HelloRetryRequest, or something between has stopped it.
	case answered && d.event.Retried && d.chosen == nil:
		f.conclude(Client, "possible", "the client closed when it was asked for another key share (HelloRetryRequest), which it or something between does not support", "",
			"let the client offer X25519 or secp256r1 first; try without what stands between")
	case answered && (d.reset() || d.ended()):
		d.rejected(f)
	case d.ended() || d.reset():
		f.conclude(Client, "possible", "the client closed before our answer", "", "see the client's own log; it may have been stopped, or have another timeout")
	default:
		f.conclude(Server, "possible", "the handshake ended early", goDetail(d), "read the error")
	}
}

// mute is a client that has closed without a byte.
func (d *dissector) mute(f *Failure) {
	// Scanners leave at once. Programs that wait for a greeting take as long as their own timeout.
	if d.trace.end > patience {
		detail := ""
		if name := d.greeting(); name != "" {
			detail = "this is the port of " + name
		}
		f.conclude(Client, "likely", "connected, waited, and left without a byte: a client that waits for the server's greeting (SMTP, IMAP, POP3, FTP and MySQL without TLS), a connection in advance, a health check or a port scan", detail,
			"use the client's TLS mode (SSL/TLS, not STARTTLS); else nothing")
		return
	}
	f.conclude(Client, "likely", "connected and left without a byte: a health check or a port scan (rarely a client that cannot use its own settings for TLS, as a file of CAs or keys)", "",
		"nothing; let the health check speak TLS if you want it quiet; if a client reports an error: padlock explain \"TEXT\"")
}

// slow is a client that has sent no whole hello until our deadline.
func (d *dissector) slow(f *Failure) {
	if len(d.in) > 0 && d.in[0] != wire.TypeHandshake {
		// A protocol that can be recognized says more than the timeout.
		if p := protocolOf(d.in); p.kind != "unknown" {
			d.notTLS(f)
			return
		}
		f.conclude(Server, "likely", "the client sent something that is not TLS, and then nothing until the handshake timeout", "it began with "+excerpt(d.in), remedyUnknown)
		return
	}

	if len(d.in) > 0 {
		f.conclude(Server, "likely", "the client sent no whole hello until the handshake timeout: the path drops large packets, or it is slow on purpose (an attack)",
			fmt.Sprintf("the client sent %s and then nothing", d.portion()), "check the path's MTU, as hellos with post-quantum keys need two packets; many of these from one address are an attack: limit it")
		return
	}

	detail := "the client sent 0 bytes and then nothing"
	if name := d.greeting(); name != "" {
		detail += "; this is the port of " + name
	}
	f.conclude(Server, "likely", "the client sent nothing until the handshake timeout: it waits for the server to speak first (SMTP, IMAP, POP3, FTP and MySQL without TLS), connected in advance, or is slow on purpose",
		detail, "use the client's TLS mode (SSL/TLS, not STARTTLS); nothing for a connection in advance; many of these from one address are an attack: limit it")
}

// portion is how much of the hello's first record has come.
func (d *dissector) portion() string {
	const header = 5
	if len(d.in) < header {
		return fmt.Sprintf("%d bytes", len(d.in))
	}
	// At least: a large hello may continue in further records, whose lengths are not known yet.
	return fmt.Sprintf("%d of at least %d bytes of its hello", len(d.in), header+int(d.in[3])<<8+int(d.in[4]))
}

// halfHello is a client that has closed in the middle of its hello.
func (d *dissector) halfHello(f *Failure) {
	if len(d.in) > 0 && d.in[0] != wire.TypeHandshake {
		if p := protocolOf(d.in); p.kind != "unknown" {
			d.notTLS(f)
			return
		}
		f.conclude(Client, "likely", "the client sent something that is not TLS, and left", "it began with "+excerpt(d.in), remedyUnknown)
		return
	}
	f.conclude(Client, "possible", "the client left in the middle of its hello: it gave up, or the path drops large packets", "after "+d.portion(), "check the path's MTU: a firewall or VPN may drop the second packet of a large hello")
}

// unanswered is a client that says nothing to our flight until our deadline.
func (d *dissector) unanswered(f *Failure) {
	cause := "the client did not answer within the handshake timeout: packets are lost, the path drops large ones, or the client hangs"
	// Browsers ask a person which certificate to send, and people take their time.
	if d.requested {
		cause = "the client did not answer within the handshake timeout: a person was asked for a client certificate, packets are lost, or the path drops large ones"
	}
	if d.clientDone || d.partial() {
		cause = "the client answered in part within the handshake timeout: packets are lost, or the client hangs"
	}
	f.conclude(Server, "likely", cause, "", fmt.Sprintf("check the path's MTU (we sent %d bytes) and whether the client still runs; raise timeouts.handshake for people who are asked", len(d.out)))
}

// rejected is a client that has closed after our answer without a word.
func (d *dissector) rejected(f *Failure) {
	how := "closed the connection"
	if d.reset() {
		how = "reset the connection"
	}
	const silently = " after our answer without saying why"
	switch {
	case d.partial():
		f.conclude(Client, "possible", "the client "+how+" in the middle of its answer: it gave up or was stopped, or something between cut it", "", clientLog(d)+"; "+remedyBetween)
	// Encrypted data behind Finished is only sent by a client that has accepted the certificate.
	case d.clientData:
		f.conclude(Client, "likely", "the client accepted our certificate and sent data, and then "+how+" before padlock had read it: it gave up, or was stopped", "", clientLog(d))
	case d.event.Certificate == nil:
		f.conclude(Client, "possible", "the client "+how+silently+": it gave up, or something between cut it", "", clientLog(d))
	case faulty(d):
		f.conclude(Client, "likely", "the client "+how+silently+"; it rejected our certificate", problem(d), certificateRemedy(d))
	case d.requested && d.event.ClientCertificate == nil:
		f.conclude(Client, "possible", "the client "+how+silently+": somebody cancelled the choice of a client certificate, "+distrust(d)+", or something between cut it", doubt(d), clientCertificateRemedy(d))
	case d.waited():
		f.conclude(Client, "possible", "the client "+how+" some time after our answer, without saying why: it gave up (its own timeout), asked a person about our certificate, or packets are lost; or "+distrust(d), doubt(d),
			"see the client's own error (padlock explain \"TEXT\"); check the path's MTU; "+distrustRemedy(d))
	case slices.Contains(d.hello.ALPN, "h2"):
		// curl sends an alert for a CA that it does not trust, and offers h2.
		f.conclude(Client, "possible", "the client "+how+silently+": it gave up (its own timeout) or was stopped, could not read a file of CAs or of revocation lists (curl tries only then), "+distrust(d)+" (Node.js, .NET and others say nothing), or something between cut it", doubt(d),
			"see the client's own error (padlock explain \"TEXT\"); "+distrustRemedy(d))
	case d.reset():
		f.conclude(Client, "possible", "the client "+how+silently+": "+distrust(d)+" (Node.js and others say nothing), gave up or was stopped, or a firewall cut it", doubt(d), distrustOrElse(d))
	default:
		f.conclude(Client, "likely", "the client "+how+silently+", as Node.js and others do: "+distrust(d)+" (less likely: a wrong clock, another name, a pin, a file of CAs that it cannot read, or it gave up or was stopped)", doubt(d), distrustOrElse(d))
	}
}

func (d *dissector) lastStage() string {
	last := "tcp_accept"
	for _, s := range d.event.Stages {
		switch s.Name {
		// These say how the handshake ended, not how far it came.
		case "alert", "close", "new_session_ticket":
		default:
			last = s.Name
		}
	}
	return last
}

// noise names the kind of failure that nobody needs to look at one by one; "" for all others.
func noise(d *dissector) string {
	switch {
	case d.event.Failure == nil || d.side == Client:
		return ""
	case d.kind != "":
		return d.spoken().kind
	case d.event.Outcome == Silent && d.spare():
		return spareNoise
	// Health checks and scanners come by the minute, and none of them is worth a line of its own.
	case len(d.in) == 0 && !d.timedOut() && d.trace.end > patience:
		return "waiting"
	case len(d.in) == 0 && !d.timedOut():
		return "scan"
	case len(d.out) == 0 && d.timedOut():
		return "slow"
	}
	return ""
}

// notes are what is worth knowing though nothing failed.
func notes(d *dissector) (out []string) {
	e := d.event
	if e.Validation {
		return []string{"this was the CA, validating that we control the name (TLS-ALPN-01)"}
	}

	if d.side == Server && (e.Outcome == Complete || e.Outcome == Silent) {
		out = servedNotes(d)
	}

	if e.Unused {
		out = append(out, unusedNote(e))
	}
	if d.side == Server && externalPSK(d) {
		out = append(out, "the client offered a pre-shared key that is no ticket (PSK), or a ticket of another kind of server; padlock takes none, so the certificate counts")
	}
	if e.Retried && d.hello != nil {
		out = append(out, "one more round trip was needed, because the client guessed another group than ours")
	}
	if d.rsaKeyExchange() {
		out = append(out, "no forward secrecy: who ever gets the certificate's private key can read this connection from a recording")
	}
	if d.hello != nil && d.hello.EarlyData && d.side == Server {
		out = append(out, "the client offered early data, which we never take")
	}

	return out
}

// servedNotes are about what the client was served, where the handshake was complete.
func servedNotes(d *dissector) (out []string) {
	e := d.event
	if e.Offered && !e.Resumed {
		out = append(out, "the client's ticket was not taken: it expired, the client came back after a restart, another server issued it, or the nodes behind this name do not share their ticket keys")
	}
	// The handshake succeeded, for example with curl -k, while visitors would see a warning.
	if e.Outcome == Complete && !e.Resumed && unbrowsable(d) {
		out = append(out, "a browser would refuse our certificate: "+list(e.Certificate.Problems))
	}
	return out
}
