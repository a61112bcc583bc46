package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// serverRules are for connections on which padlock is the client; "we" is still padlock.
var serverRules = []rule{
	{Server, 112, nil, nil, "the server has no certificate for this name", say("check the name; on the server, add it to a site"), "certain"},
	{Server, 70, nil, nil, "the server does not accept the TLS versions that we offer", say("allow TLS 1.2 or 1.3 on the server, or update it"), "certain"},
	{Server, 40, nil, nil, "the server found nothing in common with our offer, or wants a client certificate", say("see the server's log; compare its cipher suites and groups; give a client certificate"), "likely"},
	{Server, 116, nil, nil, "the server requires a client certificate", say("give one"), "certain"},
	{Server, 42, nil, nil, "the server rejected our certificate, or requires one", say("give one that it accepts; see the server's log"), "likely"},
	{Server, 45, nil, nil, "the server takes our client certificate for expired", say("renew it; check both clocks"), "likely"},
	{Server, 48, nil, nil, "the server does not trust the CA of our client certificate", say("give one from a CA that it accepts, with its intermediates"), "likely"},
	{Server, 120, nil, nil, "the server speaks none of the application protocols that we offer", say("offer another by ALPN"), "certain"},
	{Server, 80, nil, nil, "the server failed internally, or has no certificate for this name", say("see the server's log; check the name"), "likely"},
}

// diagnoseServer is diagnose for a connection on which padlock is the client.
func (d *dissector) diagnoseServer(f *Failure) {
	var (
		unknown x509.UnknownAuthorityError
		invalid *tls.CertificateVerificationError
		header  tls.RecordHeaderError
	)
	f.By, f.Confidence = Client, "certain"
	switch {
	case d.wireAlertFrom(f, Server):
	// A fault that can be named is the reason, even where Go only reports an unknown authority because of it.
	case errors.As(d.err, &unknown) && has(faultChain, faultIssuer)(d), faulty(d) && errors.As(d.err, &invalid) && !errors.As(d.err, &unknown):
		f.Kind = "we reject the server's certificate"
		f.Cause, f.Remedy = f.Kind+": "+problem(d), "get the server a certificate without this fault"
	case errors.As(d.err, &unknown) && alone(d):
		f.Kind, f.Confidence = "we cannot build a chain from the server's certificate to a CA that we trust: it sends no intermediate certificate, or we do not trust the CA", "likely"
		f.Cause, f.Remedy = f.Kind+": "+issuerAndFault(d), "send the full chain; or install the CA here: padlock trust, for padlock's own"
	case errors.As(d.err, &unknown):
		f.Kind = "we do not trust the CA that issued the server's certificate"
		f.Cause, f.Remedy = f.Kind+": "+issuerAndFault(d), "send the full chain; or install the CA here: padlock trust, for padlock's own"
	case errors.As(d.err, &invalid):
		f.Cause, f.Remedy = "we reject the server's certificate", "read the error"
	case errors.As(d.err, &header):
		f.By, f.Cause, f.Remedy = Server, "the server does not speak TLS on this port", "check the port; for plain HTTP use http://"
	case d.timedOut(), d.cutOff():
		f.Cause, f.Remedy = "the server did not answer in time", "check that it is alive, and the path to it"
	case len(d.out) == 0:
		f.By, f.Cause, f.Remedy, f.Confidence = Server, "the server closed without an answer", "check that it speaks TLS on this port", "likely"
	default:
		f.By, f.Cause, f.Remedy, f.Confidence = Server, "the server closed during the handshake", "look into the server's log", "possible"
	}
}

func (d *dissector) wireAlertFrom(f *Failure, by Side) bool {
	for _, a := range d.alerts {
		if a.from == by && a.alert.Description != 0 {
			f.Encrypted = a.encrypted
			d.apply(f, serverRules, by, int(a.alert.Description))
			return true
		}
	}
	// From crypto/tls's point of view, the remote side is the server.
	if from, alert, ok := alertOf(d.err); ok && from == Client {
		d.apply(f, serverRules, by, alert)
		return true
	}
	return false
}
