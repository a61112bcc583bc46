package handshake

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"padlock/handshake/wire"
)

// Remedies that depend on where our certificate comes from, what the client offers and how the site is configured.

const localTrust = "on the client's machine, run: padlock trust (on other devices, install the root that padlock trust --print writes; for one program: curl --cacert FILE, NODE_EXTRA_CA_CERTS=FILE)"

// trustRemedy is for a client that does not trust the CA of our certificate.
func trustRemedy(d *dissector) string {
	c := d.event.Certificate
	if c == nil {
		return "check which CAs the client trusts; see the client's own log"
	}

	switch {
	case c.local():
		return localTrust
	case c.test():
		return "get a certificate that everybody trusts: set certificates.staging to false"
	case c.selfSigned:
		return "install " + c.file("the certificate") + " on the client (curl --cacert FILE), or let padlock get a certificate: take it out of certificates.files"
	case c.alone:
		return "put the certificate of " + c.Issuer + " behind the own one in " + c.file("its file") + ", or name it with intermediates; if that is a root, install it on the client"
	// Everybody trusts a public CA, unless the client's own list is old or something between shows another certificate.
	case c.leaf != nil && (fromPublicCA(c.leaf) || c.origin.Kind == "acme"):
		return "update the client's CA certificates (Debian: apt install --reinstall ca-certificates); in a company network, add its proxy's CA"
	}

	return "install the root " + cmp.Or(c.top, c.Issuer) + " on the client (curl --cacert FILE, NODE_EXTRA_CA_CERTS=FILE)"
}

// trustOrElse is trustRemedy where the client may have another, rarer reason.
func trustOrElse(d *dissector) string {
	return trustRemedy(d) + "; if the client trusts it already, see its own error (padlock explain \"TEXT\")"
}

// distrustRemedy is for a client that does not say why it rejects our certificate.
func distrustRemedy(d *dissector) string {
	if minded(d) {
		return faultOrTrust(d)
	}
	return "if it is about trust: " + trustRemedy(d)
}

// distrustOrElse is distrustRemedy where the reason is probably trust.
func distrustOrElse(d *dissector) string {
	if minded(d) {
		return faultOrTrust(d)
	}
	return trustOrElse(d)
}

// faultOrTrust is for a client that minds a fault of our certificate, or does not trust its CA.
func faultOrTrust(d *dissector) string {
	return certificateRemedy(d) + "; if it is about trust: " + trustRemedy(d)
}

// trustOrFault is faultOrTrust for a fault that few mind.
func trustOrFault(d *dissector) string {
	return trustRemedy(d) + "; if it is about the fault: " + certificateRemedy(d)
}

func betweenOrSignature(d *dissector) string { return remedyBetween + "; " + signatureRemedy(d) }

func trustOrClock(d *dissector) string {
	return trustRemedy(d) + "; else check the client's clock, and the name that it expects"
}

// verifyRemedy is for a client that trusts the CA, and rejects the certificate nevertheless.
func verifyRemedy(*dissector) string {
	return "compare the name that the client expects, its clock and its security level (OpenSSL: SECLEVEL) with the certificate; the client's own error says which: padlock explain \"TEXT\""
}

func purposeRemedy(*dissector) string {
	return "let the client check for a server's certificate, as programs do by themselves (openssl: -purpose sslserver)"
}

func purposeOrTwin(d *dissector) string {
	return "see the client's own error; if it is the purpose: " + purposeRemedy(d) + "; if it is the key: " + twinRemedy(d)
}

// strictRemedy is for a client that minds what others let pass.
func strictRemedy(d *dissector) string {
	return "issue the certificate and its CA anew with what is missing; else turn strict checks off at the client (Python: context.verify_flags &= ~ssl.VERIFY_X509_STRICT)"
}

func namesAndTrust(d *dissector) string {
	return "compare the name in its URL with the certificate's names; " + trustRemedy(d)
}

// test reports whether a CA for tests has issued the certificate.
func (c *Certificate) test() bool {
	return c.origin.Test || strings.HasPrefix(c.Issuer, "(STAGING)") || strings.Contains(c.Issuer, "Pebble")
}

// file is the certificate's file, with the key that names it; else what is given.
func (c *Certificate) file(otherwise string) string {
	if c.origin.File == "" {
		return otherwise
	}
	if c.origin.Key == "" {
		return Escape(c.origin.File)
	}
	return Escape(c.origin.File) + " (" + c.origin.Key + ")"
}

// certificateRemedy is for the first fault of our own certificate that everybody minds, or else browsers, or few.
func certificateRemedy(d *dissector) string {
	c := d.event.Certificate
	if c == nil || len(c.faults) == 0 {
		return trustRemedy(d)
	}
	first := slices.MinFunc(c.faults, func(a, b fault) int { return cmp.Or(cmp.Compare(a.by, b.by), cmp.Compare(a.kind, b.kind)) })
	file := c.file("the certificate's file")
	switch first.kind {
	case faultExpired:
		return c.renewRemedy()
	case faultEarly:
		return "check the clock of padlock's machine and of the client; wait until the certificate is valid, or get another"
	case faultName:
		if len(c.Names) == 0 {
			return "get a certificate with the name among its subject alternative names: " + c.another()
		}
		return "use one of the certificate's names in the client, or get a certificate for this name: " + c.another()
	case faultChain:
		switch {
		case c.origin.Kind == "acme":
			return "get the certificate anew: padlock certs renew --force " + c.Subject
		case c.local():
			return "restart padlock, which makes the certificate anew; install the CA again: padlock trust"
		}
		return "put the whole chain into " + file + ": the certificate first, then the intermediates in order; or name them with intermediates"
	case faultIssuer:
		if c.local() {
			return "restart padlock, which makes the certificate anew; install the CA again: padlock trust"
		}
		return "get a certificate from a CA that may issue it, and put it into " + file + ", with the current certificates of the CAs above it behind it"
	case faultStaple:
		return "let padlock's machine reach the CA's OCSP service, or get a certificate without must-staple"
	case faultLogs:
		return "get a certificate from a CA that logs what it issues, as all with ACME do: " + c.another()
	}

	return "get a certificate without this fault: " + c.another()
}

// another is how a site gets another certificate than it has.
func (c *Certificate) another() string {
	switch c.origin.Kind {
	case "file", "imported", "":
		return "replace " + c.file("the file") + ", or leave it out, and padlock gets one itself"
	}
	return "add the name to a site (sites[].hosts)"
}

func (c *Certificate) renewRemedy() string {
	switch {
	case c.origin.Kind == "acme":
		return "see why padlock could not renew it: padlock certs list"
	case c.local():
		return "check the clock of padlock's machine, and restart padlock"
	}
	return "replace " + c.file("the certificate's file") + " with a renewed certificate (padlock reads it at once), or leave it out, and padlock gets one itself"
}

func revokedRemedy(d *dissector) string {
	c := d.event.Certificate
	if c != nil && c.origin.Kind == "acme" {
		return "get a new certificate: padlock certs renew --force " + c.Subject
	}
	if c != nil {
		return "get a new certificate, and replace " + c.file("the certificate's file")
	}
	return "get a new certificate"
}

func signatureRemedy(d *dissector) string {
	if c := d.event.Certificate; c != nil && c.local() {
		return "on the client, take older padlock CAs out and install the current one: padlock trust"
	}
	return "take an older CA of the same name out of the client's store; see whether the files fit: padlock check"
}

const clockText = "set the client's clock (it must agree with the dates above); if it is right, update the client's CA certificates and revocation lists"

func clockRemedy(*dissector) string { return clockText }

func clientLog(*dissector) string {
	return "see the client's own error message, and ask for it: padlock explain \"TEXT\""
}

// twinRemedy is for a client that cannot use the type of our key: another one helps only if the client offers its
// signatures.
func twinRemedy(d *dissector) string {
	c := d.event.Certificate
	if c == nil {
		return "add a certificate with another key type"
	}
	rsa := strings.HasPrefix(c.KeyType, "RSA")
	p256, p384 := !strings.HasSuffix(c.KeyType, "P-256") && d.signs(tls.ECDSAWithP256AndSHA256), !strings.HasSuffix(c.KeyType, "P-384") && d.signs(tls.ECDSAWithP384AndSHA384)
	switch {
	case d.demanding() && p384:
		return "lower the client's security level (OpenSSL: SECLEVEL, GnuTLS: --priority); or add a certificate with a key on P-384: certificates.files, or certificates.key_types: [p256, p384]"
	case d.demanding():
		return "lower the client's security level (OpenSSL: SECLEVEL, GnuTLS: --priority), which no usual certificate satisfies"
	case !rsa && d.signsRSA() && c.local():
		return "update the client; or use a certificate with an RSA key: certificates.files, or certificates.key_types: [p256, rsa2048] for a public name"
	case !rsa && d.signsRSA():
		return "update the client; or add an RSA certificate: certificates.files, or certificates.key_types: [p256, rsa2048]"
	case p256 && rsa:
		return "update the client; or add an ECDSA certificate: certificates.files, or certificates.key_types: [rsa2048, p256]"
	case p256:
		return "update the client; or add a certificate with a key on P-256: certificates.files, or certificates.key_types: [p256]"
	case p384:
		return "update the client; or add a certificate with a key on P-384: certificates.files, or certificates.key_types: [p256, p384]"
	case rsa:
		return "update the client, or let it offer rsa_pss_rsae_sha256 (openssl: -sigalgs), as every library does by itself: no other key helps"
	}

	return "update the client, or let it offer ecdsa_secp256r1_sha256 (openssl: -sigalgs), as every library does by itself: no other key helps"
}

// signs reports whether a client offers one of these signatures. One that says nothing of them is not known to lack
// any.
func (d *dissector) signs(any ...tls.SignatureScheme) bool {
	if d.hello == nil || len(d.hello.SignatureAlgorithms) == 0 {
		return true
	}
	return slices.ContainsFunc(d.hello.SignatureAlgorithms, func(offered uint16) bool { return slices.Contains(any, tls.SignatureScheme(offered)) })
}

// demanding reports whether a client takes signatures, and none with SHA-256, as at a security level of 192 bits and
// more.
func (d *dissector) demanding() bool {
	if d.hello == nil || len(d.hello.SignatureAlgorithms) == 0 {
		return false
	}
	small := []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256, tls.Ed25519, tls.ECDSAWithSHA1, tls.PKCS1WithSHA1, pssPSS256}
	return !d.signs(small...)
}

const pssPSS256 = 0x0809 // rsa_pss_pss_sha256 (RFC 8446 section 4.2.3)

// signsRSA reports whether a client takes signatures that crypto/tls makes with an RSA key.
func (d *dissector) signsRSA() bool {
	return d.signs(tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512) ||
		!d.both13() && d.signs(tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512)
}

func versionRemedy(d *dissector) string {
	// min_version helps only where the site asks for 1.3: padlock never takes less than 1.2.
	if d.lowest() > tls.VersionTLS12 && d.hello != nil && d.hello.MaxVersion() >= tls.VersionTLS12 {
		return "set tls.min_version to \"1.2\" in padlock's configuration, or update the client"
	}
	return "update the client, or turn TLS 1.2 and 1.3 on in it: padlock accepts nothing older"
}

// alpnRemedy looks for what the client probably meant.
func alpnRemedy(d *dissector) string {
	if d.hello == nil || d.policy == nil {
		return "let the client offer h2 or http/1.1 by ALPN, or none"
	}

	// Clients' settings name HTTP's versions in many ways, and ALPN compares names byte by byte (RFC 7301).
	meant := map[string]string{"http/1": "http/1.1", "http1.1": "http/1.1", "http/1.0": "http/1.1", "http": "http/1.1", "http/2": "h2", "http2": "h2", "h2c": "h2", "h2-14": "h2", "h2-16": "h2", "http/2.0": "h2", "spdy/3.1": "h2"}
	for _, offered := range d.hello.ALPN {
		lower := strings.ToLower(strings.TrimSpace(offered))
		want := cmp.Or(meant[lower], lower)
		if want != offered && slices.Contains(d.policy.NextProtos, want) {
			return fmt.Sprintf("write %s instead of %s in the client's ALPN setting", want, Escape(offered))
		}
	}

	// Nobody is to go back to HTTP/1.0 for this.
	advised := slices.DeleteFunc(slices.Clone(d.policy.NextProtos), func(p string) bool { return p == "http/1.0" })
	offer := "let the client offer " + strings.Join(advised, " or ") + " by ALPN, or none; "
	// A site that offers no HTTP is a TCP site, whose list of protocols is its own.
	if !slices.ContainsFunc(d.policy.NextProtos, func(p string) bool { return strings.HasPrefix(p, "h") }) {
		return offer + "or add what it offers to the site's tcp.alpn"
	}

	return offer + "other protocols can have a TCP site with tcp.alpn"
}

func unnamedRemedy(*dissector) string {
	return "use the site's name instead of the address, or let the client send it (SNI); or add the address to a site (sites[].hosts)"
}

// ownRemedy is for what failed on our side.
func ownRemedy(d *dissector) string {
	if c := d.event.Certificate; c != nil && said("sign")(d) {
		return "see whether certificate and key of " + c.file(c.Subject) + " belong together: padlock check"
	}
	return "read the error, which is that of padlock's own certificate source; padlock check and padlock certs list say more"
}

// clientCertificateRemedy says what to configure at a client, and from whom.
func clientCertificateRemedy(d *dissector) string {
	return "give the client a certificate" + d.acceptable() + " (curl --cert FILE --key FILE; browsers: import it as PKCS#12), or change tls.client_auth.mode"
}

func acceptedRemedy(d *dissector) string {
	return "give the client a certificate" + d.acceptable() + ", with its intermediates, or add its CA to the file of tls.client_auth.ca"
}

// acceptable names the CAs that the site accepts, as far as it has told the client.
func (d *dissector) acceptable() string {
	if len(d.authorities) == 0 {
		return ""
	}
	var names []string
	for _, der := range d.authorities[:min(3, len(d.authorities))] {
		names = append(names, distinguishedName(der))
	}
	if more := len(d.authorities) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return " from " + strings.ReplaceAll(list(names), " and ", " or ")
}

// Names that clients ask for.

func known(d *dissector) bool {
	why, _ := d.unserved()
	return why != ""
}

func unservedDetail(d *dissector) string {
	why, _ := d.unserved()
	return strings.TrimSuffix(nameDetail(d)+"; "+why, "; ")
}

func unservedRemedy(d *dissector) string {
	_, remedy := d.unserved()
	return remedy
}

func (d *dissector) unserved() (why, remedy string) {
	if d.hello == nil {
		return "", ""
	}
	return d.recorder.knowledge.unserved(d.hello.ServerName, d.event.Local)
}

// oddName reports whether a server name is none that a certificate can have.
func oddName(d *dissector) bool { return oddNameDetail(d) != "" }

func oddNameDetail(d *dissector) string {
	if d.hello == nil {
		return ""
	}
	name, what := d.hello.ServerName, ""
	switch {
	// A URL has slashes and a colon as well, so the scheme comes first.
	case strings.Contains(name, "://"):
		what = "it has a scheme"
	case strings.Contains(name, "/"):
		what = "it has a path"
	// Two colons in a row are an IPv6 address, which is no name with a port.
	case strings.Contains(name, ":") && !strings.Contains(strings.Trim(name, "[]"), "::"):
		what = "it has a port"
	case strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }):
		what = "it has letters beyond ASCII, which TLS sends as punycode (xn--…)"
	case strings.HasPrefix(name, "["):
		what = "it is an address, which TLS does not send as a name"
	case strings.HasPrefix(name, "*"):
		what = "it is a wildcard"
	case strings.Contains(name, "@"):
		what = "it has a user"
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		what = "it has white space or control characters"
	case strings.HasSuffix(name, "."), strings.HasPrefix(name, "."), strings.Contains(name, ".."):
		what = "it has a dot too many"
	case len(name) > 253:
		what = "it is longer than a name can be"
	default:
		return ""
	}

	return nameDetail(d) + ": " + what
}

// Overlap of what the client offers and what we have.

// noSuite and noGroup tell apart what crypto/tls says in the same words.
func noSuite(d *dissector) bool { return said("no cipher suite")(d) && !d.groupsMissing() }

func noGroup(d *dissector) bool {
	return said("key exchange")(d) || said("elliptic")(d) || said("no cipher suite")(d) && d.groupsMissing()
}

// suites are those that we would choose from for this client.
func (d *dissector) suites() (ours []uint16) {
	if d.both13() {
		return []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
	}
	if d.policy != nil && d.policy.CipherSuites != nil {
		return d.policy.CipherSuites
	}
	for _, suite := range tls.CipherSuites() {
		if slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			ours = append(ours, suite.ID)
		}
	}
	return ours
}

// both13 reports whether TLS 1.3 is the version in common.
func (d *dissector) both13() bool {
	return d.hello != nil && slices.Contains(d.hello.Versions, tls.VersionTLS13) && (d.policy == nil || d.policy.MaxVersion == 0 || d.policy.MaxVersion >= tls.VersionTLS13)
}

func (d *dissector) shared() (shared []uint16) {
	if d.hello == nil {
		return nil
	}
	ours := d.suites()
	for _, suite := range d.hello.CipherSuites {
		if slices.Contains(ours, suite) {
			shared = append(shared, suite)
		}
	}
	return shared
}

// groupsMissing reports whether cipher suites are in common and need a group, and no group is.
func (d *dissector) groupsMissing() bool {
	shared := d.shared()
	// RSA key exchange needs no group.
	if len(shared) == 0 || !slices.ContainsFunc(shared, func(s uint16) bool { return !strings.HasPrefix(wire.SuiteName(s), "TLS_RSA_") }) {
		return false
	}
	return !slices.ContainsFunc(d.groups(), func(group uint16) bool { return slices.Contains(d.hello.Groups, group) })
}

// groups are those that we would choose from for this client.
func (d *dissector) groups() (ours []uint16) {
	all := []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	if d.policy != nil && d.policy.CurvePreferences != nil {
		all = d.policy.CurvePreferences
	}
	for _, group := range all {
		// Hybrid groups exist in TLS 1.3 alone.
		if hybrid := group == tls.X25519MLKEM768 || group == tls.SecP256r1MLKEM768 || group == tls.SecP384r1MLKEM1024; !hybrid || d.both13() {
			ours = append(ours, uint16(group))
		}
	}
	return ours
}

// offer is what all cipher suites of a client are, where they are all the same.
type offer int

const (
	offersOther   offer = iota
	offersDHE           // finite-field Diffie-Hellman
	offersRSAKey        // RSA key exchange
	offersRSA           // ECDHE, with RSA certificates only
	offersECDSA         // ECDHE, with ECDSA certificates only
	offersOnly13        // those of TLS 1.3, and not the version
	offersOld           // RC4, 3DES, export, NULL, anonymous
	offersNone          // none that mean encryption
	offersRare13        // TLS 1.3, with suites that few know
	offersPSK           // keys that both sides know beforehand
	offersSRP           // passwords that both sides know
	offersDSS           // DSA certificates
	offersCurious       // Camellia, ARIA, CCM, GOST and others that padlock does not have
)

func (d *dissector) offer() offer {
	if d.hello == nil {
		return offersOther
	}

	// Signals such as TLS_FALLBACK_SCSV (RFC 7507) are in the list and are no cipher suites.
	suites := slices.DeleteFunc(names(d.hello.CipherSuites, suiteKind), func(name string) bool { return strings.HasSuffix(name, "_SCSV") })
	all := func(match func(string) bool) bool {
		return !slices.ContainsFunc(suites, func(name string) bool { return !match(name) })
	}

	having := func(parts ...string) func(string) bool {
		return func(name string) bool {
			return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(name, part) })
		}
	}

	// Suites of TLS 1.3 name no key exchange, and so have no WITH in their names (RFC 8446 appendix B.4).
	only13 := func(name string) bool { return !strings.Contains(name, "_WITH_") && strings.HasPrefix(name, "TLS_") }

	switch {
	case len(suites) == 0:
		return offersNone
	case d.both13():
		return offersRare13
	case all(only13):
		return offersOnly13
	case all(having("RC4", "3DES", "EXPORT", "NULL", "_anon_", "_DES_", "IDEA", "_MD5")):
		return offersOld
	case all(having("_PSK_")):
		return offersPSK
	case all(having("_SRP_")):
		return offersSRP
	case all(having("_DSS_")):
		return offersDSS
	}

	// The type of our key explains more than what the client's suites have in common, so it comes before that.
	if kind, ok := d.otherKey(); ok {
		return kind
	}

	// Cipher suites of TLS 1.3 in the list mean nothing in TLS 1.2.
	classic := slices.DeleteFunc(slices.Clone(suites), only13)
	suites = classic

	switch {
	case all(having("TLS_DHE_", "TLS_DH_")):
		return offersDHE
	case all(having("TLS_RSA_WITH_")):
		return offersRSAKey
	case all(having("CAMELLIA", "ARIA", "CCM", "GOST", "SEED", "CBC_SHA256", "CBC_SHA384")):
		return offersCurious
	}

	return offersOther
}

// otherKey reports whether all suites that both sides have need a certificate with another kind of key than ours.
func (d *dissector) otherKey() (kind offer, ok bool) {
	c, shared := d.event.Certificate, names(d.shared(), wire.SuiteName)
	if c == nil || len(shared) == 0 {
		return offersOther, false
	}

	all := func(prefix string) bool {
		return !slices.ContainsFunc(shared, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	}

	switch ecdsa := strings.HasPrefix(c.KeyType, "ECDSA"); {
	case ecdsa && (all("TLS_ECDHE_RSA_") || all("TLS_RSA_")):
		return offersRSA, true
	case strings.HasPrefix(c.KeyType, "RSA") && all("TLS_ECDHE_ECDSA_"):
		return offersECDSA, true
	}

	return offersOther, false
}

// suiteKind is a suite's name; of those that have none here, what they are made of.
func suiteKind(id uint16) string {
	name := wire.SuiteName(id)
	if !strings.HasPrefix(name, "0x") {
		return name
	}

	for _, family := range [...]struct {
		from, to uint16
		part     string
	}{
		{0x2c, 0x2e, "_PSK_"}, {0x8a, 0x95, "_PSK_"}, {0xa8, 0xb9, "_PSK_"}, {0xc033, 0xc03b, "_PSK_"}, {0xc064, 0xc071, "_PSK_"}, {0xc08e, 0xc09b, "_PSK_"},
		{0xccab, 0xccae, "_PSK_"}, {0xd001, 0xd005, "_PSK_"}, {0xc01a, 0xc022, "_SRP_"}, {0x41, 0x46, "CAMELLIA"}, {0x84, 0x89, "CAMELLIA"}, {0xba, 0xc5, "CAMELLIA"},
		{0x3b, 0x3b, "NULL"}, {0x6c, 0x6d, "_anon_"}, {0xa6, 0xa7, "_anon_"}, {0x18, 0x1b, "_anon_"}, {0x34, 0x34, "_anon_"}, {0x3a, 0x3a, "_anon_"},
		{0xc015, 0xc019, "_anon_"}, {0xc001, 0xc001, "NULL"}, {0xc006, 0xc006, "NULL"}, {0xc00b, 0xc00b, "NULL"}, {0xc010, 0xc010, "NULL"}, {0x01, 0x02, "NULL"},
		{0xc072, 0xc08d, "CAMELLIA"}, {0xc03c, 0xc063, "ARIA"}, {0xc09c, 0xc0af, "CCM"}, {0x96, 0x9b, "SEED"}, {0x80, 0x83, "GOST"}, {0xc100, 0xc106, "GOST"},
	} {
		if id >= family.from && id <= family.to {
			return name + "_WITH" + family.part
		}
	}

	return name + "_WITH_"
}

func suiteDetail(d *dissector) string {
	if d.hello == nil {
		return ""
	}

	c, text := d.event.Certificate, ""
	switch d.offer() {
	case offersRSA:
		return "it can use RSA certificates only, and ours is " + c.KeyType
	case offersECDSA:
		return "it can use ECDSA certificates only, and ours is " + c.KeyType
	case offersDHE:
		text = "it offers finite-field Diffie-Hellman only (DHE), which padlock does not have: "
	case offersRSAKey:
		text = "it offers RSA key exchange only, without forward secrecy: "
	case offersOnly13:
		text = "it offers the cipher suites of TLS 1.3 only, and no TLS 1.3: "
	case offersOld:
		text = "it offers broken cipher suites only: "
	case offersPSK:
		text = "it offers pre-shared keys only, which padlock does not have: "
	case offersSRP:
		text = "it offers passwords only (SRP), which padlock does not have: "
	case offersDSS:
		text = "it can use DSA certificates only, which nobody issues: "
	case offersNone:
		return "it offers none at all"
	case offersRare13:
		text = "of TLS 1.3's it offers none that padlock has: "
	case offersCurious:
		text = "it offers kinds only that padlock does not have: "
	}

	offered := slices.DeleteFunc(names(d.hello.CipherSuites, wire.SuiteName), func(name string) bool { return strings.HasSuffix(name, "_SCSV") })
	offers := strings.Join(offered[:min(3, len(offered))], ", ")
	if more := len(offered) - 3; more > 0 {
		offers += fmt.Sprintf(" and %d more", more)
	}
	if text == "" {
		text = "it offers "
	}

	return text + offers
}

func suiteRemedy(d *dissector) string {
	const update = "update the client, or allow ECDHE with AES-GCM in its cipher list"

	switch d.offer() {
	case offersRSA, offersECDSA:
		return twinRemedy(d)
	case offersRSAKey:
		// In RSA key exchange, the client encrypts to the certificate's key (RFC 5246 section 7.4.7.1), which so has to be
		// RSA.
		if c := d.event.Certificate; c != nil && !strings.HasPrefix(c.KeyType, "RSA") {
			return update + "; else give the site an RSA certificate and tls.legacy_rsa_key_exchange: true"
		}
		return update + "; else set tls.legacy_rsa_key_exchange: true for the site"
	case offersOnly13:
		return "turn TLS 1.3 on in the client, or allow ECDHE suites of TLS 1.2 in its cipher list"
	case offersRare13:
		return "allow TLS_AES_128_GCM_SHA256 in the client's TLS 1.3 cipher suites, as every library does by itself"
	}
	return update
}

func groupDetail(d *dissector) string {
	if d.hello == nil {
		return ""
	}
	ours := strings.ReplaceAll(list(names(d.groups(), wire.GroupName)), " and ", " or ")
	if len(d.hello.Groups) == 0 {
		return "it offers none, we accept " + ours
	}
	text := "it offers " + list(names(d.hello.Groups, wire.GroupName)) + ", we accept " + ours
	if !d.both13() {
		text = "cipher suites are in common; of groups " + text
	}
	return text
}

func groupRemedy(*dissector) string {
	return "let the client offer X25519 or secp256r1 (openssl: -groups X25519:P-256), as every library does by itself"
}

// What a client shows of itself.

func clientSelfSigned(d *dissector) bool {
	return d.event.ClientCertificate != nil && d.event.ClientCertificate.selfSigned
}

func clientAlone(d *dissector) bool {
	return d.event.ClientCertificate != nil && d.event.ClientCertificate.alone
}

// clientNamesake reports whether a client's certificate names an accepted CA as its issuer, and is not signed by its
// key.
func clientNamesake(d *dissector) bool {
	c := d.event.ClientCertificate
	unsigned := said("verification")(d) || said("public key of type")(d)
	return unsigned && c != nil && c.leaf != nil && slices.ContainsFunc(d.authorities, func(der []byte) bool { return string(der) == string(c.leaf.RawIssuer) })
}

// clientValid reports whether the client's own certificate is valid today.
func clientValid(d *dissector) bool {
	c := d.event.ClientCertificate
	return c != nil && !d.verdictClock.Before(c.NotBefore) && !d.verdictClock.After(c.NotAfter)
}

// clientUsable reports whether the client's own certificate is for clients, and one above it is not.
func clientUsable(d *dissector) bool {
	c := d.event.ClientCertificate
	return said("incompatible key usage")(d) && c != nil && !slices.ContainsFunc(c.faults, func(f fault) bool { return f.kind == faultUsage })
}

func clientEarly(d *dissector) bool {
	c := d.event.ClientCertificate
	return c != nil && d.verdictClock.Before(c.NotBefore)
}

func askedFor(d *dissector) string {
	if accepted := d.acceptable(); accepted != "" {
		return "it wants one" + accepted
	}
	return ""
}

func clientIssuer(d *dissector) string {
	c := d.event.ClientCertificate
	if c == nil {
		return ""
	}
	text := c.Subject + ", issued by " + c.Issuer
	if len(c.Problems) > 0 {
		text += "; " + list(c.Problems)
	}
	return text
}

func clientValidity(d *dissector) string {
	if c := d.event.ClientCertificate; c != nil {
		return c.Subject + ", valid from " + c.NotBefore.UTC().Format("2006-01-02") + " until " + c.NotAfter.UTC().Format("2006-01-02")
	}
	return ""
}
