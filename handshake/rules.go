package handshake

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"padlock/handshake/wire"
)

// rule is a row of the diagnosis table: what was seen, and what it means. The first that matches speaks.
type rule struct {
	by     Side
	alert  int
	when   func(*dissector) bool // nil matches all
	detail func(*dissector) string

	cause      string
	remedy     func(*dissector) string
	confidence string
}

const noAlert = -1

// lessLikely are the reasons of clients that say nothing of theirs.
const lessLikely = " (less likely: its clock is wrong, it expects another name or key, demands a stronger key, or wants a revocation status)"

// rules are for connections on which padlock is the server; "we" is padlock. Where the client rejects something,
// padlock knows the alert, and what is wrong with its own certificate; which of several reasons the client had is only
// certain where the alert names one.
var rules = []rule{
	{Client, 45, has(faultExpired), problem, "our certificate has expired", certificateRemedy, "certain"},
	{Client, 45, has(faultEarly), problem, "our certificate is not valid yet", certificateRemedy, "likely"},
	{Client, 45, nil, validity, "the client takes our certificate for expired, though it is not: the client's clock is wrong, or a CA certificate or revocation list that it holds has expired", clockRemedy, "likely"},

	{Client, 48, has(faultChain, faultIssuer), problem, "the client cannot build a chain from our certificate to a CA that it trusts", certificateRemedy, "likely"},
	{Client, 48, selfSigned, issuer, "the client does not trust our certificate, which is self-signed", trustRemedy, "likely"},
	{Client, 48, alone, issuerAndFault, "the client cannot build a chain from our certificate to a CA that it trusts: our chain may be incomplete, as no intermediate certificate is sent, or the client does not trust the CA", trustRemedy, "likely"},
	{Client, 48, faulty, issuerAndProblem, "the client does not trust the CA that issued our certificate, which has another fault besides", trustRemedy, "likely"},
	{Client, 48, nil, issuer, "the client does not trust the CA that issued our certificate (or, rarely, has no revocation list of it, or allows no chain of this length)", trustOrElse, "likely"},

	{Client, 46, faulty, problem, "the client rejected our certificate", certificateRemedy, "likely"},
	{Client, 46, strictly, strictProblem, "the client rejected our certificate, though it trusts the CA: its strict checks (OpenSSL's X509_STRICT, which Python 3.13 and later set) mind something", strictRemedy, "likely"},
	{Client, 46, both(openSSL, minded), problem, "the client rejected our certificate", certificateRemedy, "likely"},
	{Client, 46, openSSL, shown, "the client rejected our certificate by a rule of its own, as strict checks, a policy or Suite B; if it did not trust the CA, OpenSSL would say unknown_ca", clientLog, "likely"},
	{Client, 46, perhapsStrict, issuerAndStrict, "the client rejected our certificate: it does not trust the CA, or its strict checks (OpenSSL's X509_STRICT, which Python 3.13 and later set) mind something", trustOrElse, "possible"},
	{Client, 46, selfSigned, issuer, "the client rejected our certificate, which is self-signed: it does not trust it", trustRemedy, "likely"},
	{Client, 46, minded, problemAndIssuer, "the client rejected our certificate, which has a fault that many programs mind; if this one does not, it does not trust the CA", faultOrTrust, "likely"},
	{Client, 46, addressed, served, "the client rejected our certificate; it sent no name, and this is the certificate of the address that it came to, so it does not trust the CA" + lessLikely, trustRemedy, "likely"},
	{Client, 46, both(unnamed, alone), served, "the client rejected our certificate; it sent no name: our chain is incomplete, as no intermediate certificate is sent, or it does not trust the CA, or expects another name than we chose by its address", trustOrClock, "likely"},
	{Client, 46, unnamed, served, "the client rejected our certificate; it sent no name, so it does not trust the CA, or expects another name than we chose by its address", namesAndTrust, "possible"},
	{Client, 46, alone, issuer, "the client rejected our certificate; its name and dates are right, so its chain is incomplete, as no intermediate certificate is sent, or the client does not trust the CA" + lessLikely, trustOrClock, "likely"},
	{Client, 46, doubtful, issuerAndProblem, "the client rejected our certificate: it does not trust the CA, or minds something that not all clients mind", trustOrFault, "possible"},
	{Client, 46, nil, issuer, "the client rejected our certificate; its name and dates are right, so it does not trust the CA" + lessLikely, trustRemedy, "likely"},

	{Client, 42, faulty, problem, "the client rejected our certificate", certificateRemedy, "likely"},
	{Client, 42, both(openSSL, minded), problem, "the client rejected our certificate", certificateRemedy, "likely"},
	{Client, 42, openSSL, shown, "the client could not verify our certificate: it expects another name or key, its clock is wrong, or its security level demands a stronger key; if it did not trust the CA, OpenSSL would say unknown_ca", verifyRemedy, "likely"},
	{Client, 42, selfSigned, issuer, "the client could not verify our certificate, which is self-signed: it does not trust it", trustRemedy, "likely"},
	{Client, 42, both(browsing, has(faultStaple)), problem, "the client rejected our certificate", certificateRemedy, "likely"},
	{Client, 42, minded, problemAndIssuer, "the client rejected our certificate, which has a fault that many programs mind; if this one does not, it does not trust the CA", faultOrTrust, "likely"},
	{Client, 42, addressed, served, "the client could not verify our certificate; it sent no name, and this is the certificate of the address that it came to, so it does not trust the CA" + lessLikely, trustRemedy, "likely"},
	{Client, 42, both(unnamed, alone), served, "the client could not verify our certificate; it sent no name: our chain is incomplete, as no intermediate certificate is sent, or it does not trust the CA, or expects another name than we chose by its address", trustOrClock, "likely"},
	{Client, 42, unnamed, served, "the client could not verify our certificate; it sent no name, so it does not trust the CA, or expects another name than we chose by its address", namesAndTrust, "possible"},
	{Client, 42, alone, issuer, "the client could not verify our certificate; its name and dates are right, so its chain is incomplete, as no intermediate certificate is sent, or the client does not trust the CA" + lessLikely, trustOrClock, "likely"},
	{Client, 42, doubtful, issuerAndProblem, "the client could not verify our certificate: it does not trust the CA, or minds something that not all clients mind", trustOrFault, "possible"},
	{Client, 42, nil, issuer, "the client could not verify our certificate; its name and dates are right, so it does not trust the CA, its clock is wrong, it expects another name or key (a pin), its security level demands a stronger key, or it wants a revocation status", trustOrClock, "likely"},

	{Client, 43, has(faultUsage, faultKey, faultSignature), problem, "the client cannot use our certificate", certificateRemedy, "likely"},
	{Client, 43, openSSL, shown, "the client checks our certificate for another purpose than that of a server, by its own setting (openssl: -purpose)", purposeRemedy, "likely"},
	{Client, 43, nil, keyDetail, "the client cannot use a certificate of this kind: it is for another purpose than the client checks, or the client does not support its key type", purposeOrTwin, "possible"},
	{Client, 44, nil, issuer, "the client says that our certificate is revoked", revokedRemedy, "certain"},
	{Client, 49, nil, issuer, "the client's rules forbid our certificate: it or its CA was distrusted there", say("see the client's own log; take the certificate or its CA out of what the client distrusts"), "likely"},
	{Client, 113, has(faultStaple), problem, "the client rejected our certificate", certificateRemedy, "likely"},
	{Client, 113, nil, nil, "the client did not accept the revocation status of our certificate (OCSP): it is missing, or too old, or the client's clock is wrong", say("restart padlock to fetch a new status; check the client's clock"), "likely"},
	{Client, 51, older, issuer, "the client could not verify a signature: something between changed our answer, it holds an older CA of the same name, or certificate and key do not belong together", betweenOrSignature, "possible"},
	{Client, 51, nil, issuer, "the client could not verify a signature: it holds an older CA of the same name, or certificate and key do not belong together", signatureRemedy, "possible"},

	{Client, 70, nil, versionDetail, "the client refuses the TLS version that we chose", say("allow TLS 1.2 and 1.3 at the client, or update it"), "likely"},
	{Client, 71, has(faultKey, faultSignature), problem, "the client finds our certificate too weak", certificateRemedy, "likely"},
	{Client, 71, nil, keyDetail, "the client finds our encryption or our certificate's key too weak", say("use a certificate with an ECDSA P-256 or RSA 2048 key or better; lower the client's security level"), "likely"},
	{Client, 40, faulty, problem, "the client refuses our answer; our certificate has a fault", certificateRemedy, "possible"},
	{Client, 40, nil, nil, "the client found nothing acceptable in our answer: its own rules forbid the version, the cipher suite, the key or the certificate, or want proof of certificate transparency", clientLog, "possible"},
	{Client, 47, has(faultUsage, faultKey), problem, "the client refuses how our certificate's key is used", certificateRemedy, "likely"},
	{Client, 47, curveNotOffered, curveDetail, "the client does not offer the curve of our certificate's key, and TLS 1.2 allows no other for it", say("let the client offer the curve, too (openssl: -groups X25519:P-256), or TLS 1.3, which does not ask for this; or use a certificate with another key: certificates.key_types, or certificates.files"), "likely"},
	{Client, 47, nil, nil, "the client says that we sent something illegal: the client, or a box between, is faulty", say("update the client, try without what stands between, and report it with a capture (--capture)"), "possible"},
	{Client, 10, nil, nil, "the client did not expect our message: something between changed the handshake, or the client speaks another protocol first", say(remedyBetween), "possible"},
	{Client, 20, nil, nil, "the client could not decrypt our record: it was corrupted on its way, or something between changed it", say(remedyBetween), "possible"},
	{Client, 22, nil, nil, "the client finds our record too large: something between changed it, or the client has a small limit", say("try without what stands between; see the client's log"), "possible"},
	{Client, 50, nil, nil, "the client could not parse our message: something between changed it, or the client is faulty", say("try without what stands between (proxy, antivirus, firewall); update the client"), "possible"},
	{Client, 80, minded, problem, "the client cannot use our certificate", certificateRemedy, "likely"},
	{Client, 80, nil, nil, "the client failed internally, or its own check of our certificate failed, as with a truststore that is empty (Java)", clientLog, "possible"},
	{Client, 90, nil, nil, "a person or the program cancelled at the client", say("nothing, unless it repeats; then see the client's log"), "likely"},
	{Client, 100, nil, nil, "the client refuses to renegotiate", clientLog, "possible"},
	{Client, 109, nil, nil, "the client misses an extension in our answer: the client is faulty", say("update the client"), "possible"},
	{Client, 110, nil, nil, "the client says that we sent an extension that it did not ask for: something between changed the handshake, or the client is faulty", say("try without what stands between; update the client"), "possible"},
	{Client, 112, nil, nameDetail, "the client does not accept the name in our answer", clientLog, "possible"},
	{Client, 120, nil, alpnDetail, "the client does not accept the application protocol that we chose (ALPN)", say("let the client offer h2 or http/1.1 by ALPN, or none"), "likely"},
	{Client, 121, nil, nil, "the client insists on an encrypted hello (ECH), which padlock does not serve", say("take ech out of the name's HTTPS record in DNS, or turn ECH off at the client"), "likely"},
	{Client, 0, faulty, problem, "the client closed politely instead of accepting our certificate", certificateRemedy, "likely"},
	{Client, 0, minded, problemAndIssuer, "the client closed politely instead of accepting our certificate, which has a fault that many programs mind; if this one does not, it does not trust the CA", faultOrTrust, "likely"},
	{Client, 0, selfSigned, issuer, "the client closed politely before the handshake was over: it does not trust our certificate, which is self-signed, or somebody cancelled", trustRemedy, "possible"},
	{Client, 0, alone, issuer, "the client closed politely before the handshake was over: it lacks the intermediate certificate, which is not sent, or does not trust the CA, or somebody cancelled", trustRemedy, "possible"},
	{Client, 0, nil, issuer, "the client closed politely before the handshake was over: it does not trust the CA, or somebody cancelled", trustRemedy, "possible"},

	{Server, 70, recordVersion, goDetail, "the client sent a record of another TLS version in the middle of the handshake, as when its hello comes twice: something between changes its messages, or it is faulty", say(remedyBetween + "; update the client"), "likely"},
	{Server, 70, nil, versionDetail, "the client offers only TLS versions that we do not accept", versionRemedy, "certain"},
	{Server, 120, validation, nil, "a CA validates the name (tls-alpn-01), and padlock has no order open for it", say("nothing, unless padlock orders this name: then see padlock certs list"), "likely"},
	{Server, 120, nil, alpnDetail, "no application protocol in common (ALPN)", alpnRemedy, "certain"},
	{Server, 112, validation, nameDetail, "a CA validates the name (tls-alpn-01), and padlock has no order open for it", say("nothing, unless padlock orders this name: then see padlock certs list"), "likely"},
	{Server, 112, unnamed, nil, "the client named no host, and there is no certificate for the address that it came to", unnamedRemedy, "certain"},
	{Server, 112, oddName, oddNameDetail, "the client asks for a name that no certificate can have", say("write the host's name alone in the client's settings or URL: no scheme, port, path or dot at its end; letters beyond ASCII as punycode"), "certain"},
	{Server, 112, known, unservedDetail, "no certificate for the name that the client asked for", unservedRemedy, "certain"},
	{Server, 112, nil, nameDetail, "no certificate for the name that the client asked for", say("if the name is right, add it to a site (sites[].hosts), or a certificate for it; else correct it at the client"), "certain"},
	{Server, 40, noSuite, suiteDetail, "no cipher suite in common", suiteRemedy, "certain"},
	{Server, 40, noGroup, groupDetail, "no key-exchange group in common", groupRemedy, "certain"},
	{Server, 40, said("signature"), keyDetail, "the client supports no signature algorithm of our certificate's key", twinRemedy, "certain"},
	{Server, 40, said("didn't provide a certificate"), askedFor, "the client showed no certificate, and this site requires one", clientCertificateRemedy, "certain"},
	{Server, 40, said("renegotiation"), nil, "the client began with a renegotiation: it, or something between, joins two connections", say("try without what stands between; update the client"), "likely"},
	{Server, 40, said("Finished message"), nil, "the client's keys differ from ours: something between changed the handshake, or the client is faulty", say("try without what stands between; update the client"), "likely"},
	{Server, 40, nil, goDetail, "the client's offer does not fit ours", say("update the client; compare what it offers with the site's tls settings"), "likely"},
	{Server, 116, nil, askedFor, "the client showed no certificate, and this site requires one", clientCertificateRemedy, "certain"},
	{Server, 42, said("didn't provide a certificate"), askedFor, "the client showed no certificate, and this site requires one", clientCertificateRemedy, "certain"},
	{Server, 48, clientSelfSigned, clientIssuer, "the client's certificate is self-signed, and so from no CA that this site accepts", acceptedRemedy, "certain"},
	{Server, 48, said("insecure algorithm"), clientIssuer, "the client's certificate, or a CA's above it, is signed by an algorithm that nobody accepts any more", say("issue it anew, signed with SHA-256"), "likely"},
	{Server, 48, said("cannot sign this kind"), clientIssuer, "a certificate above the client's is not that of a CA, or its key may not sign certificates", say("issue it anew with CA:TRUE in its basic constraints and keyCertSign in its key usage, and put it into the file of tls.client_auth.ca"), "likely"},
	{Server, 48, clientNamesake, clientIssuer, "the client's certificate names a CA that this site accepts, but is not signed by its key: the CA was replaced, or the certificate is forged", say("put the CA's current certificate into the file of tls.client_auth.ca, or issue the client's anew"), "certain"},
	{Server, 48, clientAlone, clientIssuer, "the client's certificate is from a CA that this site does not accept, or its intermediate certificate was not sent", acceptedRemedy, "likely"},
	{Server, 48, nil, clientIssuer, "the client's certificate is from a CA that this site does not accept, or the certificates that it sent do not lead there", acceptedRemedy, "likely"},
	{Server, 45, clientEarly, clientValidity, "the client's certificate is not valid yet, or our clock is wrong", say("check both clocks; wait until it is valid, or issue it anew"), "likely"},
	{Server, 45, clientValid, clientIssuer, "a CA certificate above the client's has expired, or is not valid yet: in the file of tls.client_auth.ca, or among those that the client sent", say("look at their dates (openssl x509 -noout -dates -in FILE); put the CA's current certificate into the file of tls.client_auth.ca; if they are right, check the clock of padlock's machine"), "likely"},
	{Server, 45, nil, clientValidity, "the client's certificate has expired", say("issue a new one for the client; if it has not expired, check the clock of padlock's machine"), "certain"},
	{Server, 42, said("revoked by its CA"), clientIssuer, "the client's certificate has been revoked", say("issue a new one for the client"), "certain"},
	{Server, 42, said("revocation list of"), goDetail, "the revocation list of the client's CA is too old or missing, so nothing is known of its certificates", say("put the CA's current list into the file of tls.client_auth.crl, and the CA itself, where it stands below another, into that of tls.client_auth.ca"), "certain"},
	{Server, 42, said("that this site allows"), clientIssuer, "the client's certificate is good, but not among those that this site allows", say("add its name or organization to tls.client_auth.allow, or use another certificate"), "certain"},
	{Server, 42, clientUsable, clientIssuer, "a CA above the client's certificate may not sign for clients", say("issue the CA's certificate with clientAuth in its extended key usage, or without one"), "likely"},
	{Server, 42, said("incompatible key usage"), clientIssuer, "the client's certificate is not for clients", say("issue it with clientAuth in its extended key usage"), "certain"},
	{Server, 42, said("key larger than"), clientIssuer, "the client's certificate has a larger key than padlock takes", say("issue it with an RSA key of 2048 to 8192 bits, or ECDSA"), "certain"},
	{Server, 42, nil, goDetail, "the client's certificate could not be verified", say("check its dates, its chain and its extended key usage (clientAuth)"), "likely"},
	{Server, 43, nil, clientIssuer, "the client's certificate has a key that cannot be used", say("issue it with an ECDSA key, or RSA of at least 2048 bits"), "certain"},
	{Server, 86, nil, fallbackDetail, "the client tried again with a lower TLS version after a failure, which we refuse as a downgrade", say("find out why its first attempt failed: see the handshakes before this one"), "certain"},
	{Server, 110, earlyKey, nil, "the client sent early data under a pre-shared key of its own, and padlock takes neither", say("turn early data and the pre-shared key off at the client (openssl: -early_data, -psk)"), "likely"},
	{Server, 110, said("early data"), nil, "the client sent early data by an early-data ticket of another server, as padlock issues none", say("let the client try again, without its old session; turn early data off at the other server, or wait until its tickets expire"), "likely"},
	{Server, 110, nil, goDetail, "the client sent an extension that does not belong there", say("update the client"), "likely"},
	{Server, 20, nil, nil, "a record of the client could not be decrypted: it was corrupted on its way, something between changed it, or the client is faulty", say(remedyBetween), "possible"},
	{Server, 22, said("oversized record"), goDetail, "the client sent a record that is larger than TLS allows: it is not TLS, or something between changed it", say("check what the client speaks on this port; try without what stands between"), "likely"},
	{Server, 22, nil, nil, "what came is not TLS, or was corrupted on its way", say("check what the client speaks on this port"), "likely"},
	{Server, 51, said("client certificate"), clientIssuer, "the client's signature is not by its certificate's key: certificate and key do not belong together (or, rarely, the client signs wrongly)", say("give the client the key of its certificate"), "likely"},
	{Server, 51, nil, goDetail, "a signature, ticket or checksum of the client is wrong", say("clear the client's sessions and try again; try without what stands between"), "likely"},
	{Server, 50, dotted, nameDetail, "the client's server name ends with a dot, which TLS does not allow (RFC 6066)", say("leave the dot at the end of the name out of the client's settings or URL"), "certain"},
	{Server, 50, nil, goDetail, "the client sent a message that does not parse", say("update the client, or find what changes its messages on the way"), "likely"},
	{Server, 47, nil, goDetail, "the client sent something that the protocol forbids", say("update the client"), "likely"},
	{Server, 10, renegotiates, nil, "the client asked to renegotiate, which padlock refuses", say("turn renegotiation off at the client; padlock asks for client certificates in the first handshake (tls.client_auth)"), "certain"},
	{Server, 10, said("waiting for *tls.clientHelloMsg"), goDetail, "the client began with another message than a hello: it is a server, or faulty", say("check what connects to this port"), "likely"},
	{Server, 10, nil, goDetail, "the client sent a message out of turn", say("update the client, or find what changes its messages on the way"), "likely"},
	{Server, 109, nil, goDetail, "the client left out an extension that TLS requires", say("update the client"), "likely"},
	{Server, 80, validation, nameDetail, "a CA validates the name (tls-alpn-01), and padlock has no order open for it", say("nothing, unless padlock orders this name: then see padlock certs list"), "likely"},
	{Server, 80, said("exceeds maximum"), sizeDetail, "the client's message is larger than padlock takes", say("look for what makes it so large: tickets, certificates or extensions by the hundred; else it is an attack"), "certain"},
	{Server, 80, nil, goDetail, "something failed on our side", ownRemedy, "certain"},
}

// say is a remedy that is always the same.
func say(text string) func(*dissector) string { return func(*dissector) string { return text } }

// Conditions.

func said(text string) func(*dissector) bool {
	return func(d *dissector) bool {
		return d.err != nil && strings.Contains(d.err.Error(), text) || d.readErr != nil && strings.Contains(d.readErr.Error(), text)
	}
}

func recordVersion(d *dissector) bool { return said("received record with version")(d) }

func renegotiates(d *dissector) bool {
	return d.done != 0 && d.err == nil && (said("message of type *tls.clientHelloMsg")(d) || said("renegotiation")(d))
}

// openSSL reports whether the client's alert has passed in plaintext where TLS 1.3 encrypts it, as OpenSSL's do that
// reject a certificate. It has an alert for each kind of reason: one for an unknown CA, and others for a wrong name,
// the dates or a purpose.
func openSSL(d *dissector) bool {
	return d.tls13 && d.chosen != nil && slices.ContainsFunc(d.alerts, func(a seenAlert) bool { return a.from == Client && !a.encrypted && a.alert.Description != closeNotify })
}

// strictly reports whether only OpenSSL's strict checks mind something about our certificate.
func strictly(d *dissector) bool { return openSSL(d) && strictProblem(d) != "" && !doubtful(d) }

// perhapsStrict is for TLS 1.2, in which every client's alert passes in plaintext.
func perhapsStrict(d *dissector) bool {
	return d.chosen != nil && !d.tls13 && strictProblem(d) != "" && !doubtful(d)
}

func earlyKey(d *dissector) bool { return externalPSK(d) && said("early data")(d) }

func externalPSK(d *dissector) bool { return d.hello != nil && d.hello.ExternalPSK }

func validation(d *dissector) bool {
	return d.hello != nil && len(d.hello.ALPN) == 1 && d.hello.ALPN[0] == acmeProtocol
}

func unnamed(d *dissector) bool { return d.hello == nil || d.hello.ServerName == "" }

func dotted(d *dissector) bool { return d.hello != nil && strings.HasSuffix(d.hello.ServerName, ".") }

// addressed reports whether a client that named no host was shown what has the address that it came to.
func addressed(d *dissector) bool {
	host, _, err := net.SplitHostPort(d.event.Local)
	return err == nil && unnamed(d) && d.event.Certificate != nil && d.event.Certificate.covers(host)
}

// has reports whether our certificate has a fault of these kinds that everybody minds, or browsers, or many programs.
func has(kinds ...faultKind) func(*dissector) bool {
	return func(d *dissector) bool {
		c := d.event.Certificate
		return c != nil && slices.ContainsFunc(c.faults, func(f fault) bool { return f.by <= programs && slices.Contains(kinds, f.kind) })
	}
}

// faulty reports whether this client surely minds something about our certificate, if it verifies at all.
func faulty(d *dissector) bool {
	c := d.event.Certificate
	return c != nil && slices.ContainsFunc(c.faults, func(f fault) bool {
		return f.by == everybody || f.by == browsers && browser(d.hello) && c.refused(f.kind)
	})
}

// missesStaple reports whether a program has asked for the revocation status that our certificate promises, and that is
// not sent. Browsers always ask, and few of them insist.
func missesStaple(d *dissector) bool {
	return has(faultStaple)(d) && d.hello != nil && slices.Contains(d.hello.Extensions, statusRequest) && !browser(d.hello)
}

const statusRequest = 5 // RFC 6066 section 8

// refused reports whether all browsers mind a kind of fault that other clients do not.
func (c *Certificate) refused(kind faultKind) bool {
	switch kind {
	case faultKey, faultSignature, faultUsage, faultForm, faultLogs:
		return true
	case faultLifetime:
		// Of certificates from other CAs, only Apple's systems demand this.
		return c.leaf != nil && fromPublicCA(c.leaf)
	}
	return false
}

// minded reports whether our certificate has a fault that many programs mind, as browsers do.
func minded(d *dissector) bool { return has(faultUsage, faultKey, faultSignature, faultForm)(d) }

// older reports whether the handshake is one of TLS 1.2, in which who stands between can change our certificate
// unnoticed.
func older(d *dissector) bool { return d.chosen != nil && !d.tls13 }

// distrust is the likeliest reason of a client that does not say why it rejects our certificate.
func distrust(d *dissector) string {
	switch {
	case minded(d):
		return "it minds a fault of our certificate, or does not trust the CA"
	case selfSigned(d):
		return "it does not trust our certificate, which is self-signed"
	case alone(d):
		return "it lacks the intermediate certificate, which is not sent, or does not trust the CA"
	}
	return "it does not trust the CA"
}

// unbrowsable reports whether a browser would refuse our certificate.
func unbrowsable(d *dissector) bool {
	return d.event.Certificate != nil && len(d.event.Certificate.Problems) > 0
}

// doubtful reports whether some clients mind something about our certificate.
func doubtful(d *dissector) bool {
	return d.event.Certificate != nil && len(texts(d.event.Certificate.faults, someone)) > 0
}

func selfSigned(d *dissector) bool {
	return d.event.Certificate != nil && d.event.Certificate.selfSigned
}

// alone reports whether our certificate was sent without its issuer's, which need not be a root.
func alone(d *dissector) bool {
	c := d.event.Certificate
	return c != nil && c.alone && !c.local()
}

// localName begins the names of padlock's own CAs.
const localName = "padlock local CA "

func (c *Certificate) local() bool {
	return c.origin.Kind == "local" || c.origin.Kind == "" && strings.HasPrefix(c.Issuer, localName)
}

func both(a, b func(*dissector) bool) func(*dissector) bool {
	return func(d *dissector) bool { return a(d) && b(d) }
}

func browsing(d *dissector) bool { return browser(d.hello) }

// Details.

// problem is everything that is wrong with our certificate: what everybody minds if there is any, else what some do.
func problem(d *dissector) string {
	c := d.event.Certificate
	if c == nil {
		return ""
	}
	for _, by := range [...]refusers{everybody, browsers, programs, someone} {
		if found := texts(c.faults, by); len(found) > 0 {
			return list(found)
		}
	}
	return ""
}

func issuer(d *dissector) string {
	if c := d.event.Certificate; c != nil {
		return "issued by " + c.Issuer
	}
	return ""
}

// issuerAndFault adds what everybody would mind next.
func issuerAndFault(d *dissector) string {
	if faulty(d) {
		return issuer(d) + "; besides, " + problem(d)
	}
	return issuer(d)
}

func problemAndIssuer(d *dissector) string { return problem(d) + "; " + issuer(d) }

func issuerAndProblem(d *dissector) string { return issuer(d) + "; " + problem(d) }

// doubt is the issuer, and what some clients mind.
func doubt(d *dissector) string {
	if doubtful(d) {
		return issuerAndProblem(d)
	}
	return issuer(d)
}

// shown is our certificate as a client compares it with what it expects.
func shown(d *dissector) string {
	c := d.event.Certificate
	if c == nil {
		return ""
	}
	return fmt.Sprintf("for %s, with a key of %s, %s, %s", list(c.Names), c.KeyType, validity(d), doubt(d))
}

// strictProblem is what only strict checks mind.
func strictProblem(d *dissector) string {
	if d.event.Certificate == nil {
		return ""
	}
	var found []string
	for _, f := range d.event.Certificate.faults {
		if f.by == strict {
			found = append(found, f.text)
		}
	}
	return list(found)
}

func issuerAndStrict(d *dissector) string { return issuer(d) + "; " + strictProblem(d) }

func served(d *dissector) string {
	if c := d.event.Certificate; c != nil {
		return "for " + list(c.Names) + ", issued by " + c.Issuer
	}
	return ""
}

func validity(d *dissector) string {
	if c := d.event.Certificate; c != nil {
		return "valid from " + c.NotBefore.UTC().Format("2006-01-02") + " until " + c.NotAfter.UTC().Format("2006-01-02")
	}
	return ""
}

// curvesOfKeys are those of certificates, as supported groups.
var curvesOfKeys = map[string]uint16{"ECDSA P-256": uint16(tls.CurveP256), "ECDSA P-384": uint16(tls.CurveP384), "ECDSA P-521": uint16(tls.CurveP521)}

// curveNotOffered is for clients of TLS 1.2 whose supported groups lack the curve of our certificate. OpenSSL goes by
// RFC 8422 section 5.3 there; crypto/tls does not look at it.
func curveNotOffered(d *dissector) bool {
	if d.event.Certificate == nil || d.hello == nil || d.event.Version != tls.VersionTLS12 || len(d.hello.Groups) == 0 {
		return false
	}
	curve, known := curvesOfKeys[d.event.Certificate.KeyType]
	return known && !slices.Contains(d.hello.Groups, curve)
}

func curveDetail(d *dissector) string {
	return fmt.Sprintf("ours is %s; it offers %s", d.event.Certificate.KeyType, list(names(d.hello.Groups, wire.GroupName)))
}

func keyDetail(d *dissector) string {
	c := d.event.Certificate
	if c == nil || d.hello == nil {
		return ""
	}
	text := fmt.Sprintf("ours is %s; the client offers %s", c.KeyType, list(names(d.hello.SignatureAlgorithms, wire.SchemeName)))
	if len(d.hello.SignatureAlgorithms) == 0 {
		text = fmt.Sprintf("ours is %s; the client offers no signature algorithms", c.KeyType)
	}
	if d.demanding() {
		text += "; none with SHA-256, as at a high security level"
	}
	return text
}

func versionDetail(d *dissector) string {
	if d.hello == nil {
		return ""
	}

	offers := list(names(clientVersions(d.hello), wire.VersionName))
	if !strings.HasPrefix(offers, "SSL") {
		offers = "TLS " + offers
	}
	if len(d.hello.Versions) == 0 {
		offers += " at most"
	}

	detail := "it offers " + offers
	if d.policy != nil {
		detail += ", we require " + wire.VersionName(d.lowest()) + " or newer"
	}

	return detail
}

func (d *dissector) lowest() uint16 {
	if d.policy == nil {
		return tls.VersionTLS12
	}
	return max(d.policy.MinVersion, tls.VersionTLS12)
}

func fallbackDetail(d *dissector) string {
	if d.hello == nil {
		return ""
	}
	return "it offers TLS " + list(names(clientVersions(d.hello), wire.VersionName)) + " at most this time"
}

func alpnDetail(d *dissector) string {
	if d.hello == nil || d.policy == nil {
		return ""
	}
	return fmt.Sprintf("it offers %s, we speak %s", list(escaped(d.hello.ALPN)), list(d.policy.NextProtos))
}

func nameDetail(d *dissector) string {
	if d.event.SNI == "" {
		return ""
	}
	return "it asked for " + d.event.SNI
}

func goDetail(d *dissector) string {
	err := d.err
	if err == nil {
		err = d.readErr
	}
	if err == nil {
		return ""
	}
	return Escape(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "local error: "), "tls: "))
}

// sizeDetail is what crypto/tls says of a message that is too large.
func sizeDetail(d *dissector) string {
	var length, most int
	if d.err == nil {
		return ""
	}
	if _, err := fmt.Sscanf(d.err.Error(), "tls: handshake message of length %d bytes exceeds maximum of %d bytes", &length, &most); err != nil {
		return goDetail(d)
	}
	what := "the client's hello"
	if d.chosen != nil {
		what = "the client's certificate chain"
	}
	return fmt.Sprintf("%s has %d bytes, and %d are the most", what, length, most)
}
