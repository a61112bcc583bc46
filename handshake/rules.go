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

	cause, remedy, confidence string
}

const noAlert = -1

const trustRemedy = "install the CA on the client: padlock trust (for other devices: padlock trust --print), or send the full chain"

// rules are for connections on which padlock is the server; "we" is padlock.
var rules = []rule{
	{Client, 45, expired, problem, "our certificate has expired", "renew the certificate", "certain"},
	{Client, 45, nil, validity, "the client takes our certificate for expired, though it is not: the client's clock is wrong", "set the client's clock", "likely"},
	{Client, 48, incomplete, problem, "the client cannot build a chain from our certificate to a CA that it trusts", "send the full chain: the leaf first, then the intermediates", "certain"},
	{Client, 48, nil, issuer, "the client does not trust the CA that issued our certificate", trustRemedy, "certain"},
	{Client, 46, faulty, problem, "the client rejected our certificate", "get a certificate without this fault", "certain"},
	{Client, 46, addressed, served, "the client rejected our certificate; it sent no name, and this is the certificate of the address that it came to, so it does not trust the CA", trustRemedy, "likely"},
	{Client, 46, unnamed, served, "the client rejected our certificate; it sent no name, so it expects another one than we chose by address, or does not trust the CA", "compare the name in its URL with the certificate's names; " + trustRemedy, "possible"},
	{Client, 46, nil, issuer, "the client rejected our certificate; its name and dates are right, so it does not trust the CA", trustRemedy, "likely"},
	{Client, 42, faulty, problem, "the client rejected our certificate", "get a certificate without this fault", "certain"},
	{Client, 42, addressed, served, "the client could not verify our certificate; it sent no name, and this is the certificate of the address that it came to, so it does not trust the CA", trustRemedy, "likely"},
	{Client, 42, unnamed, served, "the client could not verify our certificate; it sent no name, so it expects another one than we chose by address, or does not trust the CA", "compare the name in its URL with the certificate's names; " + trustRemedy, "possible"},
	{Client, 42, nil, issuer, "the client could not verify our certificate; its name and dates are right, so it does not trust the CA, or expects another name", trustRemedy, "likely"},
	{Client, 43, nil, keyDetail, "the client cannot use a certificate of this type", "add a certificate with another key type (RSA beside ECDSA)", "likely"},
	{Client, 44, nil, nil, "the client says that our certificate is revoked", "replace the certificate", "certain"},
	{Client, 70, nil, versionDetail, "the client refuses the protocol version that we chose", "compare the versions in its hello with tls.min_version", "likely"},
	{Client, 71, nil, nil, "the client finds our parameters too weak", "use a longer key; leave the cipher suites at their defaults", "likely"},
	{Client, 40, nil, nil, "the client found nothing acceptable in our answer", "compare its hello with our policy; look into the client's own log", "possible"},
	{Client, 47, nil, nil, "the client says that we sent something illegal", "capture the handshake (--capture) and report it", "possible"},
	{Client, 10, nil, nil, "the client did not expect our message: a middlebox changed the handshake, or the client speaks another protocol first", "try without the middlebox", "possible"},
	{Client, 20, nil, nil, "the client could not decrypt our record: corruption, or a middlebox", "try without the middlebox; capture the connection", "possible"},
	{Client, 50, nil, nil, "the client could not parse our message", "try without middleboxes; update the client", "possible"},
	{Client, 51, nil, nil, "the client could not verify a signature of ours", "check that certificate and key belong together", "possible"},
	{Client, 49, nil, nil, "the client's rules forbid this certificate", "look into the client's own log", "possible"},
	{Client, 80, nil, nil, "the client failed internally", "look into the client's own log", "possible"},
	{Client, 90, nil, nil, "somebody cancelled at the client", "none, unless it repeats", "likely"},
	{Client, 113, nil, nil, "the client did not accept the stapled OCSP response", "renew the staple, or leave it out", "likely"},
	{Client, 0, faulty, problem, "the client closed politely instead of accepting our certificate", "get a certificate without this fault", "likely"},
	{Client, 0, nil, nil, "the client closed politely before it was done, as some do that reject a certificate", "check that the client trusts the CA: padlock trust", "possible"},

	{Server, 70, nil, versionDetail, "the client offers only protocol versions that we do not accept", "upgrade the client, or lower tls.min_version", "certain"},
	{Server, 120, nil, alpnDetail, "no application protocol in common", "let the client offer h2 or http/1.1 by ALPN, or none", "certain"},
	{Server, 112, unnamed, nil, "the client named no host, and there is no certificate for the address", "let the client send a server name (SNI), or add a certificate for the address", "certain"},
	{Server, 112, nil, nameDetail, "no certificate for the name that the client asked for", "add the name to a site, or a certificate for it", "certain"},
	{Server, 40, said("no cipher suite"), suiteDetail, "no cipher suite in common", "upgrade the client, or add an RSA certificate if it can use no other", "certain"},
	{Server, 40, said("key exchange"), groupDetail, "no key-exchange group in common", "let the client offer X25519 or secp256r1", "certain"},
	{Server, 40, said("elliptic"), groupDetail, "no key-exchange group in common", "let the client offer X25519 or secp256r1", "certain"},
	{Server, 40, said("signature"), keyDetail, "the client supports no signature algorithm of our certificate's key", "add a certificate with another key type (RSA beside ECDSA)", "certain"},
	{Server, 40, said("certificate"), nil, "the client showed no certificate, and this site requires one", "configure a client certificate from an accepted CA", "certain"},
	{Server, 116, nil, nil, "the client showed no certificate, and this site requires one", "configure a client certificate from an accepted CA", "certain"},
	{Server, 42, said("didn't provide a certificate"), nil, "the client showed no certificate, and this site requires one", "configure a client certificate from an accepted CA", "certain"},
	{Server, 48, nil, clientIssuer, "the client's certificate is from a CA that this site does not accept", "add its CA to tls.client_auth.ca, or use another certificate", "certain"},
	{Server, 45, nil, clientValidity, "the client's certificate has expired or is not valid yet, or our clock is wrong", "renew it; check the clock", "certain"},
	{Server, 42, said("revoked by its CA"), clientIssuer, "the client's certificate has been revoked", "issue a new one", "certain"},
	{Server, 42, said("revocation list of"), nil, "the revocation list of the client's CA has expired, so nothing is known of its certificates", "put the CA's current list in the place of tls.client_auth.crl", "certain"},
	{Server, 42, said("that this site allows"), clientIssuer, "the client's certificate is good, but not among those that this site allows", "add its name or organization to tls.client_auth.allow", "certain"},
	{Server, 42, said("incompatible key usage"), nil, "the client's certificate is not for clients", "issue it with clientAuth in its extended key usage", "certain"},
	{Server, 42, nil, nil, "the client's certificate could not be verified", "check its dates, its chain and its extended key usage (clientAuth)", "likely"},
	{Server, 43, nil, nil, "the client's certificate has a key that cannot be used", "use an ECDSA or RSA key of at least 2048 bits", "certain"},
	{Server, 86, nil, fallbackDetail, "the client retried with a lower version after a failure", "find out why its first attempt failed", "certain"},
	{Server, 110, said("early data"), nil, "the client holds an early-data ticket of another server", "disable early data there first, or wait until the ticket expires", "certain"},
	{Server, 110, nil, nil, "the client sent an extension that does not belong there", "update the client", "possible"},
	{Server, 20, nil, nil, "a record could not be decrypted: corruption, a middlebox, or a faulty client", "try without the middlebox; capture the connection", "possible"},
	{Server, 22, nil, nil, "what came is not TLS, or was corrupted on its way", "check what the client speaks on this port", "likely"},
	{Server, 51, nil, nil, "a signature or a ticket binder of the client does not verify", "clear the client's sessions; check its key", "likely"},
	{Server, 50, nil, nil, "the client sent a message that does not parse", "update the client, or find the middlebox that changes its messages", "likely"},
	{Server, 47, nil, nil, "the client sent something that the protocol forbids", "update the client", "likely"},
	{Server, 10, nil, nil, "the client sent a message out of turn", "update the client, or find the middlebox that changes its messages", "likely"},
	{Server, 109, nil, nil, "the client left out a required extension", "update the client", "likely"},
	{Server, 80, nil, goDetail, "something failed on our side", "read the error: it is the certificate source's own", "certain"},
}

// Conditions and details of rules.

func said(text string) func(*dissector) bool {
	return func(d *dissector) bool { return d.err != nil && strings.Contains(d.err.Error(), text) }
}

func unnamed(d *dissector) bool { return d.hello == nil || d.hello.ServerName == "" }

// addressed reports whether a client that named no host was shown what has the address that it came to.
func addressed(d *dissector) bool {
	host, _, err := net.SplitHostPort(d.event.Local)
	return err == nil && unnamed(d) && d.event.Certificate != nil && slices.Contains(d.event.Certificate.Names, host)
}

func faulty(d *dissector) bool {
	return d.event.Certificate != nil && len(d.event.Certificate.Problems) > 0
}

func hasProblem(d *dissector, word string) bool {
	return faulty(d) && slices.ContainsFunc(d.event.Certificate.Problems, func(p string) bool { return strings.Contains(p, word) })
}

func expired(d *dissector) bool    { return hasProblem(d, "expired") }
func incomplete(d *dissector) bool { return hasProblem(d, "chain is") }

func problem(d *dissector) string { return list(d.event.Certificate.Problems) }

func issuer(d *dissector) string {
	if c := d.event.Certificate; c != nil {
		return "issued by " + c.Issuer
	}
	return ""
}

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

func keyDetail(d *dissector) string {
	if c := d.event.Certificate; c != nil && d.hello != nil {
		return fmt.Sprintf("ours is %s; the client offers %s", c.KeyType, list(names(d.hello.SignatureAlgorithms, wire.SchemeName)))
	}
	return ""
}

func clientIssuer(d *dissector) string {
	if c := d.event.ClientCertificate; c != nil {
		return c.Subject + ", issued by " + c.Issuer
	}
	return ""
}

func clientValidity(d *dissector) string {
	if c := d.event.ClientCertificate; c != nil {
		return c.Subject + ", valid from " + c.NotBefore.UTC().Format("2006-01-02") + " until " + c.NotAfter.UTC().Format("2006-01-02")
	}
	return ""
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
		detail += ", we require " + wire.VersionName(max(d.policy.MinVersion, tls.VersionTLS12)) + " or newer"
	}
	return detail
}

func fallbackDetail(d *dissector) string {
	return "it offers TLS " + list(names(clientVersions(d.hello), wire.VersionName)) + " at most this time"
}

func alpnDetail(d *dissector) string {
	if d.hello == nil || d.policy == nil {
		return ""
	}
	return fmt.Sprintf("it offers %s, we speak %s", list(escaped(d.hello.ALPN)), list(d.policy.NextProtos))
}

func nameDetail(d *dissector) string { return "it asked for " + d.event.SNI }

func suiteDetail(d *dissector) string {
	if d.hello == nil {
		return ""
	}
	offered := slices.DeleteFunc(names(d.hello.CipherSuites, wire.SuiteName), func(name string) bool { return strings.HasSuffix(name, "_SCSV") })
	ecdsa, rsa := false, false
	for _, suite := range offered {
		ecdsa = ecdsa || strings.HasPrefix(suite, "TLS_ECDHE_ECDSA_")
		rsa = rsa || strings.HasPrefix(suite, "TLS_ECDHE_RSA_")
	}
	c := d.event.Certificate
	switch {
	case c != nil && strings.HasPrefix(c.KeyType, "ECDSA") && rsa && !ecdsa:
		return "it can use RSA certificates only, and ours is " + c.KeyType
	case c != nil && strings.HasPrefix(c.KeyType, "RSA") && ecdsa && !rsa:
		return "it can use ECDSA certificates only, and ours is " + c.KeyType
	}
	text := strings.Join(offered[:min(3, len(offered))], ", ")
	if more := len(offered) - 3; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return "it offers " + text
}

func groupDetail(d *dissector) string {
	if d.hello == nil {
		return ""
	}
	return "it offers " + list(names(d.hello.Groups, wire.GroupName)) + ", we accept X25519MLKEM768, X25519, secp256r1, secp384r1 and secp521r1"
}

func goDetail(d *dissector) string {
	if d.err == nil {
		return ""
	}
	return Escape(d.err.Error())
}
