package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"padlock/handshake/wire"
)

// diagnose says who ended a handshake, where, why, and what to do; nil if it was complete.
func diagnose(d *dissector) *Failure {
	if d.event.Outcome == Complete {
		return nil
	}
	f := &Failure{Stage: d.lastStage(), Alert: noAlert}
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
		f.By, f.Confidence = Server, "certain"
		f.Cause, f.Remedy = "the client spoke "+kindText(d.kind)+" on a TLS port", kindRemedy(d.kind)
	case d.wireAlert(f) || d.silentRejection(f) || d.textAlert(f):
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

// wireAlert looks at the alerts that were read off the wire: they outrank what crypto/tls says.
func (d *dissector) wireAlert(f *Failure) bool {
	if d.event.Outcome != Failed {
		return false
	}
	for _, a := range d.alerts {
		if a.alert.Description == 0 && len(d.alerts) > 1 {
			continue // close_notify behind the alert that counts
		}
		f.Encrypted = a.encrypted
		d.apply(f, rules, a.from, int(a.alert.Description))
		return true
	}
	return false
}

// textAlert is for alerts under application keys, which we do not hold: there crypto/tls's text is all there is.
func (d *dissector) textAlert(f *Failure) bool {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case d.err == nil:
		return false
	case strings.Contains(f.GoError, "didn't provide a certificate"):
		d.apply(f, rules, Server, 116)
	case errors.As(d.err, &invalid) && invalid.Reason == x509.Expired:
		d.apply(f, rules, Server, 45)
	case errors.As(d.err, &unknown):
		d.apply(f, rules, Server, 48)
	case strings.Contains(f.GoError, "failed to verify certificate"):
		d.apply(f, rules, Server, 42)
	case strings.Contains(f.GoError, "bad record MAC"):
		d.apply(f, rules, Server, 20)
	default:
		return false
	}
	f.Encrypted = true
	return true
}

// apply finds the row for an alert.
func (d *dissector) apply(f *Failure, table []rule, by Side, alert int) {
	f.By, f.Alert, f.AlertName = by, alert, wire.AlertName(byte(alert))
	for _, r := range table {
		if r.by != by || r.alert != alert || r.when != nil && !r.when(d) {
			continue
		}
		f.Cause, f.Kind, f.Remedy, f.Confidence = r.cause, r.cause, r.remedy, r.confidence
		if r.detail != nil {
			if detail := r.detail(d); detail != "" {
				f.Cause += ": " + detail
			}
		}
		return
	}
	f.Kind = "the " + string(by) + " sent an alert that is rare"
	f.Cause, f.Remedy, f.Confidence = "the "+string(by)+" sent the alert "+f.AlertName, "see what it means: padlock explain "+f.AlertName, "possible"
}

// silentRejection is a handshake that was complete, and then nothing: a client that rejects a certificate after Finished,
// such as curl with a wrong name, or one that connected in advance and had no use for it.
func (d *dissector) silentRejection(f *Failure) bool {
	if d.event.Outcome != Silent {
		return false
	}
	if d.readErr != nil {
		text := d.readErr.Error()
		for number := 1; number < 256; number++ {
			if strings.Contains(text, "remote error: "+tls.AlertError(number).Error()) {
				d.apply(f, rules, Client, number)
				f.Encrypted, f.GoError = true, Escape(text)
				return true
			}
		}
	}
	f.By = Client
	switch {
	case faulty(d):
		f.Kind = "the client closed after a complete handshake, because it rejected our certificate"
		f.Cause = f.Kind + ": " + problem(d)
		f.Remedy, f.Confidence = "get a certificate without this fault", "likely"
	default:
		f.Cause = "the client closed after a complete handshake: it connected in advance, only probed, or expects another name than it sent"
		f.Remedy, f.Confidence = "nothing, if another connection served the page; else compare the name asked for with the certificate's names", "possible"
	}
	return true
}

// timedOut reports whether it was our own deadline that ended the handshake.
func (d *dissector) timedOut() bool {
	if d.err == nil {
		return false
	}
	text := d.err.Error()
	return errors.Is(d.err, os.ErrDeadlineExceeded) || strings.Contains(text, "deadline exceeded") || strings.Contains(text, "i/o timeout") ||
		strings.Contains(text, "closed network connection")
}

// withoutAlert judges by how far it came and how it ended.
func (d *dissector) withoutAlert(f *Failure) {
	answered := len(d.out) > 0
	f.By, f.Confidence = Client, "likely"
	switch {
	case d.timedOut() && answered:
		f.By = Server
		f.Cause, f.Remedy = "the client did not answer within the handshake timeout: packet loss, a path that drops large packets, or a person who was asked", "check the path (MTU, certificate chain of "+fmt.Sprint(len(d.out))+" bytes sent)"
	case d.timedOut():
		f.By = Server
		f.Kind = "the client sent no whole hello until the handshake timeout: a connection in advance, or a slow attack"
		f.Cause = fmt.Sprintf("the client sent %d bytes and then nothing until the handshake timeout: a connection in advance, or a slow attack", len(d.in))
		f.Remedy = "nothing; many of these from one address are an attack: limit it"
	case len(d.in) == 0 && d.reset():
		f.Cause, f.Remedy = "connected and reset without a byte: a port scan or a health check", "nothing; let the health check speak TLS if you want it quiet"
	case len(d.in) == 0:
		f.Cause, f.Remedy = "connected and left without a byte: a health check or a port scan", "nothing; let the health check speak TLS if you want it quiet"
	case !answered && d.hello == nil:
		f.Kind = "the client left in the middle of its hello: it gave up, or the path drops large packets"
		f.Cause, f.Remedy = fmt.Sprintf("the client left in the middle of its hello, after %d bytes: it gave up, or the path drops large packets", len(d.in)), "check the path: a middlebox or MTU may drop large hellos"
		f.Confidence = "possible"
	case answered && faulty(d):
		f.Kind = "the client left after our answer without saying why; it rejected our certificate"
		f.Cause, f.Remedy = f.Kind+": "+problem(d), "get a certificate without this fault"
	case answered && d.reset():
		f.Cause, f.Remedy = "the connection was reset after our answer: a silent rejection, or a firewall", "check that the client trusts the CA: padlock trust; compare with a client that works"
		f.Confidence = "possible"
	case answered && d.ended():
		f.Cause, f.Remedy = "the client left after our answer without saying why, as Node.js does when it does not trust the CA", "check that the client trusts the CA: padlock trust; for Node.js: NODE_EXTRA_CA_CERTS"
	case d.ended():
		f.Cause, f.Remedy = "the client left before our answer", "look into the client's own log"
		f.Confidence = "possible"
	default:
		f.By = Server
		f.Cause, f.Remedy = "the handshake ended early", "read the error"
		f.Confidence = "possible"
	}
}

func (d *dissector) lastStage() string {
	last := "tcp_accept"
	for _, s := range d.event.Stages {
		switch s.Name {
		case "alert", "close", "new_session_ticket":
		default:
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
	case "no_proxy":
		return "without the PROXY header that listen.proxy_protocol asks its address for,"
	}
	return "an unknown protocol"
}

func kindRemedy(kind string) string {
	switch kind {
	case "http":
		return "use https:// (padlock has answered with a redirect)"
	case "h2c":
		return "use HTTP/2 over TLS: https://"
	case "proxy":
		return "turn the PROXY protocol off at the load balancer"
	case "no_proxy":
		return "turn the PROXY protocol on at the load balancer, or take its address out of listen.proxy_protocol.from"
	case "sslv2":
		return "nothing: an ancient client, or a scanner"
	}
	return "check what is meant to connect to this port"
}

// noise names the kind of failure that nobody needs to look at one by one; "" for all others.
func noise(d *dissector) string {
	switch {
	case d.event.Failure == nil || d.side == Client:
		return ""
	case d.kind != "":
		return d.kind
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
		if e.Offered && !e.Resumed {
			out = append(out, "the client's ticket was not taken: it expired, the client came back after a restart, or the nodes behind this name do not share their ticket keys")
		}
		if e.Outcome == Complete && !e.Resumed && faulty(d) {
			out = append(out, "a browser would refuse our certificate: "+problem(d))
		}
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
