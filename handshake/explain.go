package handshake

import (
	"regexp"
	"strconv"
	"strings"

	"padlock/handshake/wire"
)

// Explanation is what an error text means, whoever printed it.
type Explanation struct {
	Title   string // the condition in a few words
	Meaning string // who says it, and what happened
	Remedy  string
	Matched string // the words by which it was recognised
}

// entry lists texts of one condition. They are compared in lower case, with every run of other characters than letters, digits and
// dots as one space, so that SEC_ERROR_UNKNOWN_ISSUER, "unknown issuer" and unknown-issuer are the same.
type entry struct {
	title, meaning, remedy string
	texts                  []string
}

// generic texts surround more telling ones, and only count where there are none.
func (e entry) generic() bool { return e.title == titleRejected || e.title == titleClosed }

const (
	titleRejected = "The certificate was rejected"
	titleClosed   = "The connection was closed during the handshake"
)

var entries = []entry{
	{"The CA is not trusted", "The client does not know the CA that issued the server's certificate: a local CA that is not installed there, a self-signed certificate, or a server that does not send its intermediate certificate.",
		"Send the full chain (leaf first, then intermediates). For padlock's local CA: padlock trust on this machine, padlock trust --print for other devices. For single programs: curl --cacert FILE, NODE_EXTRA_CA_CERTS=FILE, REQUESTS_CA_BUNDLE=FILE or SSL_CERT_FILE=FILE (Python), keytool -importcert (Java).",
		[]string{"unknown ca", "unknown certificate authority", "certificate signed by unknown authority", "unable to get local issuer certificate", "unable to get issuer certificate", "unable to verify the first certificate", "unable to verify leaf signature", "self signed certificate", "self signed certificate in certificate chain", "depth zero self signed cert", "self signed cert in chain", "pkix path building failed", "unable to find valid certification path", "suncertpathbuilderexception", "err cert authority invalid", "sec error unknown issuer", "sec error untrusted issuer", "mozilla pkix error self signed cert", "mozilla pkix error mitm detected", "curle peer failed verification", "curl 60", "curl 77", "error setting certificate verify locations", "x509 certificate signed by unknown authority", "unable to get issuer cert locally", "verify error num 20", "verify error num 21", "verify error num 18", "verify error num 19"}},
	{"The certificate is for another name", "The name in the URL is not among the certificate's names. Browsers and Go look at subject alternative names only, never at the common name; a wildcard stands for exactly one label.",
		"Compare the name with the certificate's: padlock probe HOST. Get a certificate for the name, or use a name that it has.",
		[]string{"err cert common name invalid", "ssl error bad cert domain", "certificate is valid for", "hostname mismatch", "doesn t match", "does not match target host name", "no alternative certificate subject name matches", "err tls cert altname invalid", "altnames", "no subject alternative", "no name matching", "certificate is not valid for any names", "ip address mismatch", "cannot validate certificate for", "doesn t contain any ip sans", "relies on legacy common name"}},
	{"The certificate has expired, or the clock is wrong", "The client's clock is outside the certificate's dates. If the dates are right, it is the client's clock.",
		"Look at the dates: padlock probe HOST. Renew the certificate, or set the client's clock.",
		[]string{"certificate has expired", "certificate expired", "err cert date invalid", "sec error expired certificate", "sec error expired issuer certificate", "cert has expired", "cert not yet valid", "is not yet valid", "certificate has expired or is not yet valid", "validity check failed", "notafter", "certificateexpiredexception", "certificatenotyetvalidexception", "mozilla pkix error not yet valid certificate", "verify error num 10", "verify error num 9"}},
	{titleRejected, "The client could not accept the certificate and says no more. Go sends bad_certificate for every fault, Java and Chrome certificate_unknown.",
		"Check names, dates and chain: padlock probe HOST. If they are right, the client does not trust the CA: padlock trust.",
		[]string{"bad certificate", "certificate unknown", "ssl error bad cert alert", "ssl error certificate unknown alert", "err bad ssl client auth cert", "certificate verify failed", "failed to verify certificate", "ssl certificate problem", "sslcertverificationerror", "certificate verification failed", "tls certificate verification"}},
	{"The certificate was revoked", "Its CA has withdrawn the certificate.", "Get a new one.",
		[]string{"certificate revoked", "err cert revoked", "sec error revoked certificate", "certificaterevokedexception"}},
	{"A client certificate is required", "The server asked for a certificate and got none. Over TLS 1.3 the client learns it only after it believed the connection open.",
		"Configure a certificate from a CA that the server accepts: curl --cert FILE --key FILE; browsers: import it (PKCS#12).",
		[]string{"certificate required", "client didn t provide a certificate", "err ssl client auth cert needed", "ssl error rx certificate required alert", "peer did not return a certificate", "no required ssl certificate was sent"}},
	{"The protocol versions do not overlap", "One side is too old, or is configured so. padlock accepts TLS 1.2 and 1.3.",
		"Upgrade the older side; lower tls.min_version only if you must. Try: openssl s_client -connect HOST:443 -tls1_2",
		[]string{"protocol version", "unsupported protocol", "client offered only unsupported versions", "server selected unsupported protocol version", "wrong ssl version", "err ssl version or cipher mismatch", "ssl error unsupported version", "ssl error protocol version alert", "no protocols available", "no appropriate protocol", "the client supported protocol versions", "received fatal alert protocol version", "tlsv1 not supported"}},
	{"Nothing in common", "handshake_failure says that cipher suites, groups or signature algorithms do not overlap; before TLS 1.3 also that a client certificate is missing.",
		"See what the client offers in padlock's story of the handshake. An old client may know RSA certificates only, or no elliptic curves.",
		[]string{"handshake failure", "no cipher suite supported", "no shared cipher", "ssl error no cypher overlap", "no key exchanges supported", "received fatal alert handshake failure", "sslv3 alert handshake failure", "no suitable key share", "no suitable signature algorithm", "no common signature algorithms", "insufficient security", "doesn t support any of the certificate s signature algorithms", "ssl error handshake failure alert", "cipher suites in common"}},
	{"The server has no certificate for this name", "The client asked for a name (SNI) that the server does not serve, or for none.",
		"Check the name; add it to a site, or a certificate for it. By address no name is sent: use a name.",
		[]string{"unrecognized name", "unrecognized name alert", "ssl error unrecognized name alert", "tlsv1 unrecognized name", "no certificates configured", "err ssl unrecognized name alert"}},
	{"No application protocol in common", "By ALPN the client offered only protocols that the server does not speak.",
		"Let the client offer h2 or http/1.1, or send no ALPN.",
		[]string{"no application protocol", "unsupported application protocols", "err alpn negotiation failed", "ssl error next protocol no protocol", "err http2 protocol error alpn"}},
	{"The other side does not speak TLS here", "A record that is not TLS came: plain HTTP on this port, a proxy or load balancer in between, or https:// to an http:// port.",
		"Check scheme and port. In front of padlock: turn the PROXY protocol off, or on at both ends.",
		[]string{"wrong version number", "first record does not look like a tls handshake", "server gave http response to https client", "client sent an http request to an https server", "ssl error rx record too long", "err ssl protocol error", "unknown protocol", "http request", "packet length too long", "eproto", "unsupported or unrecognized ssl message", "record layer failure", "record overflow", "oversized record received", "plaintext connection"}},
	{"A record could not be decrypted", "Corruption on the way, a middlebox that changes traffic, or keys that differ. Go also prints bad record MAC where an OpenSSL client sent a plain alert, mostly unknown_ca: padlock reads the alert off the wire.",
		"Look at padlock's story of the handshake: it names the true alert. If there is none, try without the middlebox.",
		[]string{"bad record mac", "decryption failed or bad record mac", "ssl error bad mac read", "ssl error bad mac alert", "decryption failed"}},
	{"A message did not parse", "The other side, or a box in between, sends what the protocol does not allow.",
		"Try without middleboxes; update the side that is blamed.",
		[]string{"decode error", "unexpected message", "illegal parameter", "missing extension", "unsupported extension", "ssl error decode error alert", "unexpected eof while reading", "error decoding message"}},
	{"A signature did not verify", "Certificate and key do not belong together, or a ticket or client key is wrong.",
		"Check the pair: padlock check says so. Clear the client's sessions.",
		[]string{"decrypt error", "private key does not match public key", "bad signature", "invalid signature by the", "key values mismatch", "ssl error decrypt error alert"}},
	{titleClosed, "Nobody said why: a client that rejects a certificate silently (Node.js), a firewall, a crash, or a server that is overloaded.",
		"Look at padlock's story: how far did it come? Compare with a client that works.",
		[]string{"connection reset", "econnreset", "err connection reset", "err connection closed", "ssl error syscall", "pr connect reset error", "pr end of file error", "eof occurred in violation of protocol", "remote host terminated the handshake", "socket hang up", "client network socket disconnected", "unexpected eof", "curl 35", "curl 56", "schannel", "remote host closed connection during handshake"}},
	{"The other side did not answer in time", "Packet loss, a firewall that drops, or a path that loses large packets: a hello with post-quantum keys needs two.",
		"Check the path and its MTU; try openssl s_client with -groups X25519 to send a small hello.",
		[]string{"tls handshake timeout", "handshake timed out", "context deadline exceeded", "i o timeout", "err timed out", "err connection timed out", "etimedout", "read timed out", "curl 28"}},
	{"Nothing listens there", "The address was reached and refused the connection.",
		"Start the server; check address and port: padlock doctor.",
		[]string{"connection refused", "econnrefused", "err connection refused", "curl 7"}},
	{"The name does not resolve", "There is no address for the name.", "Check the name, and DNS: padlock doctor NAME. *.localhost resolves in browsers and curl by itself, *.test needs /etc/hosts.",
		[]string{"no such host", "could not resolve host", "enotfound", "err name not resolved", "name or service not known", "unknownhostexception", "getaddrinfo", "curl 6"}},
	{"A downgrade was refused", "The client came back with a lower version after a failure (TLS_FALLBACK_SCSV), and the server knows a higher one.",
		"Find out why the first attempt failed.", []string{"inappropriate fallback", "ssl error inappropriate fallback alert", "err ssl fallback beyond minimum version"}},
	{"The certificate may not be used so", "Key usage or a constraint of a CA above it forbids this use, such as the name constraints of padlock's local CA.",
		"Issue it with serverAuth (clientAuth for clients), for names that its CA permits.",
		[]string{"unsupported certificate", "incompatible key usage", "unsuitable certificate purpose", "sec error inadequate cert type", "sec error inadequate key usage", "permitted subtree violation", "sec error cert not in name space", "not authorized to sign for this name", "err cert name constraint violation", "name constraint", "err cert invalid", "sec error extension value invalid", "ssl error unsupported certificate alert"}},
	{"The certificate is too weak", "Its key is too short or its signature outdated.", "Get one with an ECDSA P-256 or RSA 2048 key, signed with SHA-256.",
		[]string{"err cert weak signature algorithm", "err cert weak key", "key too small", "ee key too small", "ca md too weak", "sec error cert signature algorithm disabled", "err ssl weak server ephemeral dh key", "dh key too small", "mozilla pkix error inadequate key size", "insecure algorithm sha1"}},
	{"The certificate is not in the public logs", "Chrome and Safari accept certificates of public CAs only with certificate transparency.", "Get a certificate from a CA that logs, as all ACME CAs do.",
		[]string{"err certificate transparency required", "mozilla pkix error insufficient certificate transparency"}},
	{"HSTS or pinning forbids to go on", "The site demanded HTTPS earlier, or the browser pins its key, so that the warning cannot be clicked away.", "Mend the certificate; for a test name, use one that was never served with HSTS.",
		[]string{"err ssl pinned key not in cert chain", "mozilla pkix error key pinning failure", "hsts"}},
	{"The client closed the connection", "close_notify and user_canceled are polite: a person left, or the program was done.", "None, unless it repeats.",
		[]string{"close notify", "user canceled", "err connection aborted"}},
	{"An internal error", "internal_error: the side that sent it failed, for no fault of the other.", "Look into its log. In padlock the story carries the certificate source's own error.",
		[]string{"internal error", "ssl error internal error alert", "tlsv1 alert internal error"}},
	{"Access was denied", "access_denied: the certificate is valid, but rules forbid it.", "Ask whoever runs the other side.", []string{"access denied", "ssl error access denied alert"}},
	{"The stapled OCSP response is bad or missing", "The certificate demands a staple (must-staple) or brings a wrong one.", "Renew the staple; restart what made it.",
		[]string{"bad certificate status response", "mozilla pkix error required tls feature missing", "sec error ocsp", "ocsp response"}},
	{"Renegotiation was refused", "The other side wants to renegotiate, which Go and HTTP/2 do not allow.", "Ask for the client certificate in the first handshake.",
		[]string{"no renegotiation", "renegotiation not allowed", "unsafe legacy renegotiation"}},
	{"The early-data ticket is from elsewhere", "The client sent early data for a ticket of another server.", "Disable early data there, or wait until the tickets expire.",
		[]string{"client sent unexpected early data", "early data"}},
	{"Encrypted client hello is required", "ech_required: the client insists on ECH, and the server did not accept it.", "Update the keys in DNS (HTTPS record), or turn ECH off at the client.",
		[]string{"ech required", "err ech not negotiated", "ssl error ech required alert"}},
	{"The pre-shared key is unknown", "unknown_psk_identity: a ticket or key that the server does not know.", "Clear the client's sessions.", []string{"unknown psk identity"}},
}

var (
	notWord     = regexp.MustCompile(`[^a-z0-9.]+`)
	alertNumber = regexp.MustCompile(`\balert(?: number)?[ :(]+(\d{1,3})\b`)
	quicAlert   = regexp.MustCompile(`\b0x1([0-9a-f]{2})\b`)
)

// Explain finds what a text means; the longest known text in it decides. It reports false for what it does not know.
func Explain(text string) (Explanation, bool) {
	lower := strings.ToLower(text)
	words := notWord.ReplaceAllString(lower, " ")
	if number, ok := alertIn(lower, words); ok {
		words += " " + strings.ReplaceAll(wire.AlertName(number), "_", " ")
	}
	words = " " + strings.TrimSpace(words) + " "
	var best Explanation
	bestIsGeneric := false
	for _, e := range entries {
		for _, known := range e.texts {
			better := best.Matched == "" || bestIsGeneric && !e.generic() || bestIsGeneric == e.generic() && len(known) > len(best.Matched)
			if better && strings.Contains(words, " "+known+" ") {
				best, bestIsGeneric = Explanation{e.title, e.meaning, e.remedy, known}, e.generic()
			}
		}
	}
	return best, best.Matched != ""
}

// alertIn finds an alert's number: "SSL alert number 48", "48" alone, or QUIC's 0x130 (RFC 9001 section 4.8).
func alertIn(lower, words string) (byte, bool) {
	digits := ""
	if m := alertNumber.FindStringSubmatch(lower); m != nil {
		digits = m[1]
	} else if trimmed := strings.TrimSpace(words); trimmed != "" && strings.Trim(trimmed, "0123456789") == "" {
		digits = trimmed
	} else if m := quicAlert.FindStringSubmatch(lower); m != nil {
		n, err := strconv.ParseUint(m[1], 16, 8)
		return byte(n), err == nil
	}
	n, err := strconv.ParseUint(digits, 10, 8)
	return byte(n), err == nil
}
