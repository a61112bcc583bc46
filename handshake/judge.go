package handshake

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"padlock/internal/netname"
)

// fault is something about a certificate for which clients refuse it, whatever CAs they trust.
type fault struct {
	kind faultKind
	by   refusers
	text string // begins with "it" or "its"
}

type faultKind int

const (
	faultExpired faultKind = iota
	faultEarly
	faultName
	faultChain  // no path can be built from what is sent
	faultIssuer // a CA in its chain may not issue it, or has another key now
	faultUsage  // it, or a CA above it, may not be used so
	faultKey
	faultSignature
	faultLifetime
	faultLogs // certificate transparency
	faultStaple
	faultForm
)

// refusers are those that mind a fault.
type refusers int

const (
	everybody refusers = iota // that verifies at all
	browsers
	programs // many, and no browser
	someone  // few clients: worth a thought, and no more
	strict   // OpenSSL's strict checks alone
)

// extras are what is known beside a chain.
type extras struct {
	staple     bool // a stapled OCSP response is sent
	timestamps bool // of certificate transparency, sent beside the certificate
	unknown    bool // nothing is known of either
	root       *x509.Certificate
}

// judge finds all that does not depend on the name asked for or on the day.
func (c *Certificate) judge(leaf *x509.Certificate, rest [][]byte, beside extras) {
	c.leaf = leaf
	c.selfSigned = bytes.Equal(leaf.RawIssuer, leaf.RawSubject) && signed(leaf, leaf)
	// A single certificate is complete only where clients have its issuer as a root, which cannot be known here.
	c.alone = len(rest) == 0 && !c.selfSigned
	c.faults = slices.Concat(nameFaults(leaf), usageFaults(leaf), keyFaults(leaf, c.selfSigned), publicFaults(leaf, beside), c.chainFaults(leaf, rest, beside.root), c.strictFaults(leaf, rest, beside.root))
	c.Problems = texts(c.faults, browsers)
}

// texts are those of faults that these mind, or more of them.
func texts(faults []fault, by refusers) (out []string) {
	for _, f := range faults {
		if f.by <= by {
			out = append(out, f.text)
		}
	}
	return out
}

func nameFaults(leaf *x509.Certificate) (out []fault) {
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		text := "it names no host (no subject alternative name)"
		if leaf.Subject.CommonName != "" {
			text = "it names no host but in its common name, which clients ignore (no subject alternative name)"
		}
		out = append(out, fault{faultName, everybody, text})
	}

	for _, name := range leaf.DNSNames {
		if net.ParseIP(name) != nil {
			out = append(out, fault{faultName, someone, "it has the address " + name + " as a DNS name, and clients look for an IP address"})
		}
	}

	if len(leaf.UnhandledCriticalExtensions) > 0 {
		out = append(out, fault{faultForm, everybody, "it has a critical extension that clients do not know: " + leaf.UnhandledCriticalExtensions[0].String()})
	}
	if leaf.Version < 3 {
		out = append(out, fault{faultForm, browsers, fmt.Sprintf("it is an X.509 certificate of version %d, and version 3 is needed", leaf.Version)})
	}
	return out
}

func usageFaults(leaf *x509.Certificate) (out []fault) {
	// RFC 5280 section 4.2.1.12: without the extension, every usage is allowed.
	limited := len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0
	if limited && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		out = append(out, fault{faultUsage, everybody, "it is not for servers (no serverAuth in its extended key usage)"})
	}

	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		// Java and GnuTLS reject it as browsers do.
		by := browsers
		if leaf.KeyUsage&(x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement) == 0 {
			// OpenSSL, and so most programs that are no browsers, accepts any of these three.
			by = everybody
		}
		out = append(out, fault{faultUsage, by, "its key may not sign (no digitalSignature in its key usage)"})
	}

	// Self-made certificates are often CAs, and most clients accept them, so this is no verdict by itself.
	if leaf.IsCA {
		out = append(out, fault{faultUsage, someone, "it is a CA's own certificate, which Firefox and others do not accept from a server"})
	}
	return out
}

const (
	leastRSA = 2048
	mostRSA  = 8192
)

func keyFaults(leaf *x509.Certificate, selfSigned bool) (out []fault) {
	add := func(kind faultKind, by refusers, text string) { out = append(out, fault{kind, by, text}) }
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		switch bits := key.N.BitLen(); {
		case bits < leastRSA:
			add(faultKey, shortKey(bits), fmt.Sprintf("its RSA key has only %d bits, and many programs want %d", bits, leastRSA))
		case bits > mostRSA:
			add(faultKey, someone, fmt.Sprintf("its RSA key has %d bits, more than many clients accept", bits))
		}
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384():
		case elliptic.P521():
			add(faultKey, someone, "its key is on the curve P-521, which Chrome does not support")
		default:
			add(faultKey, browsers, "its key is on a curve that browsers do not support: "+key.Curve.Params().Name)
		}
	default:
		add(faultKey, browsers, "browsers do not support its key type")
	}

	if outdated(leaf.SignatureAlgorithm) {
		by := everybody
		if selfSigned {
			// A root's signature proves nothing, and most clients do not look at it.
			by = browsers
		}
		add(faultSignature, by, "it is signed with "+leaf.SignatureAlgorithm.String()+", which clients refuse")
	}

	return out
}

// shortKey is who minds an RSA key of less than 2048 bits: OpenSSL at the security level of most systems, and Apple's;
// browsers, Java and GnuTLS take 1024.
func shortKey(bits int) refusers {
	if bits < 1024 {
		return everybody
	}
	return programs
}

func outdated(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

// Lifetimes that browsers accept at most, by the day of issue (CA/Browser Forum ballot SC-081v3).
var lifetimes = []struct {
	from time.Time
	days int
}{
	{time.Date(2029, 3, 15, 0, 0, 0, 0, time.UTC), 47},
	{time.Date(2027, 3, 15, 0, 0, 0, 0, time.UTC), 100},
	{time.Date(2026, 3, 15, 0, 0, 0, 0, time.UTC), 200},
	{time.Date(2020, 9, 1, 0, 0, 0, 0, time.UTC), publicDays},
}

const (
	publicDays  = 398
	privateDays = 825 // from a CA that the user installed (Apple HT210176)
)

// Object identifiers of extensions and policies.
var (
	oidTimestamps  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2} // RFC 6962 section 3.3
	oidFeatures    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}       // RFC 7633
	oidConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}                     // RFC 5280 section 4.2.1.9
	oidPublic      = asn1.ObjectIdentifier{2, 23, 140, 1}                    // policies of the CA/Browser Forum
)

// fromPublicCA reports whether a certificate says itself that it was issued by the rules of public CAs.
func fromPublicCA(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(leaf.PolicyIdentifiers, func(id asn1.ObjectIdentifier) bool {
		return len(id) > len(oidPublic) && slices.Equal(id[:len(oidPublic)], oidPublic)
	})
}

// publicFaults are against the rules that browsers have for public CAs, and against what the certificate promises
// itself.
func publicFaults(leaf *x509.Certificate, beside extras) (out []fault) {
	add := func(kind faultKind, by refusers, text string) { out = append(out, fault{kind, by, text}) }
	public, most := fromPublicCA(leaf), privateDays

	// A leaf of a public CA says where its issuer's certificate can be had; those of companies' own CAs may, too.
	if likely := public || len(leaf.IssuingCertificateURL) > 0; likely {
		// The rule of the day of issue counts: certificates that were issued before a new limit stay valid.
		for _, l := range slices.Backward(lifetimes) {
			if !leaf.NotBefore.Before(l.from) {
				most = l.days
			}
		}
	}

	switch days := int(leaf.NotAfter.Sub(leaf.NotBefore) / (24 * time.Hour)); {
	case days > most:
		who := "browsers accept"
		if most == privateDays {
			who = "Apple's systems accept"
		}
		add(faultLifetime, browsers, fmt.Sprintf("it is valid for %d days, and %s %d at most", days, who, most))
	case days > publicDays:
		add(faultLifetime, someone, fmt.Sprintf("it is valid for %d days, and from public CAs browsers accept %d at most", days, publicDays))
	}

	// A certificate that was not sent by padlock comes without knowledge of stapling, and must not be accused.
	if beside.unknown {
		return out
	}

	if public && !beside.timestamps && !beside.staple && !extension(leaf, oidTimestamps, nil) {
		add(faultLogs, browsers, "it is not in the public logs (certificate transparency), which browsers want of public CAs")
	}
	if !beside.staple && extension(leaf, oidFeatures, mustStaple) {
		add(faultStaple, browsers, "it demands a stapled OCSP response (must-staple), and none is sent")
	}

	return out
}

// mustStaple reports whether the features of a certificate have status_request (RFC 7633 section 6).
func mustStaple(value []byte) bool {
	var features []int
	_, err := asn1.Unmarshal(value, &features)
	return err == nil && slices.Contains(features, 5)
}

func extension(c *x509.Certificate, id asn1.ObjectIdentifier, holds func([]byte) bool) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return holds == nil || holds(e.Value)
		}
	}
	return false
}

// strictFaults are what OpenSSL minds where X509_STRICT is set (RFC 5280 section 4.2.1), of what is sent and of the
// local CA's root.
func (c *Certificate) strictFaults(leaf *x509.Certificate, rest [][]byte, root *x509.Certificate) (out []fault) {
	// RFC 5280 asks these extensions of certificates that a CA has issued.
	if c.selfSigned {
		return nil
	}

	add := func(text string) { out = append(out, fault{faultForm, strict, text}) }
	if len(leaf.AuthorityKeyId) == 0 {
		add("it has no authority key identifier")
	}
	if !leaf.IsCA && leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		add("its key usage has keyCertSign, and it is no CA")
	}

	chain := []*x509.Certificate{}
	for _, der := range rest {
		if ca, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, ca)
		}
	}

	if root != nil && c.local() {
		chain = append(chain, root)
	}

	for _, ca := range chain {
		name := Escape(ca.Subject.CommonName)
		if len(ca.SubjectKeyId) == 0 {
			add("the certificate of " + name + " has no subject key identifier")
		}
		if ca.KeyUsage == 0 {
			add("the certificate of " + name + " has no key usage")
		}
		if ca.IsCA && !critical(ca, oidConstraints) {
			add("the basic constraints of " + name + " are not critical")
		}
	}

	return out
}

func critical(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(id) && e.Critical })
}

// signed reports whether parent's key has signed a certificate, by whatever algorithm.
func signed(c, parent *x509.Certificate) bool {
	err := parent.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	// Go refuses to check SHA-1 signatures. Whether the signature fits is another question than whether clients
	// accept it.
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure)
}

// chainFaults looks at order, completeness and what the CAs may do. Whether the client has the root cannot be known
// here.
func (c *Certificate) chainFaults(leaf *x509.Certificate, rest [][]byte, root *x509.Certificate) (out []fault) {
	add := func(kind faultKind, text string) { out = append(out, fault{kind, everybody, text}) }
	chain := []*x509.Certificate{leaf}
	for i, der := range rest {
		next, err := x509.ParseCertificate(der)
		if err != nil {
			add(faultChain, fmt.Sprintf("certificate %d of its chain does not parse", i+2))
			return out
		}
		chain = append(chain, next)
	}

	c.top = Escape(chain[len(chain)-1].Issuer.CommonName)
	for i, next := range chain[1:] {
		broken := c.linkFault(chain, i, next)
		if broken != nil {
			// Behind a broken link, the remaining certificates belong to another chain.
			return append(out, *broken)
		}
		out = append(out, issuerFaults(next)...)
	}

	// A leaf from a public CA says where its issuer's certificate can be had, and is issued by an intermediate.
	if len(rest) == 0 && len(leaf.IssuingCertificateURL) > 0 && !c.selfSigned {
		add(faultChain, "its chain is incomplete: the intermediate certificate is missing")
	}

	// The local CA's root is known, so a chain that ends below it can be followed to its end.
	if last := chain[len(chain)-1]; root != nil && bytes.Equal(last.RawIssuer, root.RawSubject) && !bytes.Equal(last.Raw, root.Raw) {
		c.alone = false
		if !signed(last, root) {
			add(faultIssuer, "it is from an older local CA of the same name: the CA's key was replaced")
			return out
		}
		chain = append(chain, root)
	}

	const long = 6
	if len(rest) >= long {
		out = append(out, fault{faultChain, someone, fmt.Sprintf("its chain has %d certificates, more than some clients follow", len(chain))})
	}

	return append(out, boundFaults(chain)...)
}

// linkFault is what keeps a certificate from being the issuer of the one before it; nil if nothing does.
func (c *Certificate) linkFault(chain []*x509.Certificate, before int, next *x509.Certificate) *fault {
	last, name := chain[before], Escape(next.Subject.CommonName)
	broken := func(format string, args ...any) *fault {
		return &fault{faultChain, everybody, fmt.Sprintf(format, args...)}
	}

	unable := func(format string, args ...any) *fault {
		return &fault{faultIssuer, everybody, fmt.Sprintf(format, args...)}
	}

	switch {
	case bytes.Equal(last.Raw, next.Raw):
		return &fault{faultChain, someone, fmt.Sprintf("its chain has certificate %d twice", before+1)}
	case !bytes.Equal(last.RawIssuer, next.RawSubject):
		// A chain in the wrong order has all of its certificates. Most clients sort them, but some do not.
		for _, other := range chain {
			if other != last && bytes.Equal(last.RawIssuer, other.RawSubject) {
				return broken("its chain is out of order: certificate %d did not issue the one before it", before+2)
			}
		}
		return broken("its chain is incomplete: the certificate of %s, which issued certificate %d, is missing", Escape(last.Issuer.CommonName), before+1)
	case !next.IsCA:
		return unable("its chain leads through %s, which is no CA (basic constraints)", name)
	case next.KeyUsage != 0 && next.KeyUsage&x509.KeyUsageCertSign == 0:
		return unable("its chain leads through %s, whose key may not sign certificates (key usage)", name)
	// The names fit and the key does not: a CA that was made anew under its old name.
	case !signed(last, next):
		return unable("its chain does not fit: the signature is not by the key of %s, which may have been replaced", name)
	}

	// The certificate that expires first decides for the whole chain.
	if c.firstUntil.IsZero() || next.NotAfter.Before(c.firstUntil) {
		c.firstUntil, c.firstName = next.NotAfter, name
	}

	return nil
}

// issuerFaults are those of a CA's own certificate; a root's signature and dates prove nothing.
func issuerFaults(ca *x509.Certificate) (out []fault) {
	// Clients use their own copy of a root, and only its key.
	if bytes.Equal(ca.RawIssuer, ca.RawSubject) {
		return nil
	}
	name := Escape(ca.Subject.CommonName)
	if key, ok := ca.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < leastRSA {
		out = append(out, fault{faultKey, shortKey(key.N.BitLen()), fmt.Sprintf("its intermediate certificate %s has an RSA key of only %d bits", name, key.N.BitLen())})
	}
	if outdated(ca.SignatureAlgorithm) {
		out = append(out, fault{faultSignature, everybody, "its intermediate certificate " + name + " is signed with " + ca.SignatureAlgorithm.String() + ", which clients refuse"})
	}
	return out
}

// boundFaults are what the CAs of a chain do not allow: names, uses, and CAs below them.
func boundFaults(chain []*x509.Certificate) []fault {
	if len(chain) < 2 {
		return nil
	}

	// Go's verifier knows name constraints, path lengths and usages. The chain's own top stands in for a trusted
	// root, so that only these can fail.
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	top := chain[len(chain)-1]
	o.Roots.AddCert(top)
	o.CurrentTime = top.NotBefore
	for _, c := range chain[:len(chain)-1] {
		o.Intermediates.AddCert(c)
		if c.NotBefore.After(o.CurrentTime) {
			// The dates are judged elsewhere; here they would hide what else is wrong.
			o.CurrentTime = c.NotBefore
		}
	}

	_, err := chain[0].Verify(o)
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) {
		return nil
	}

	switch invalid.Reason {
	case x509.CANotAuthorizedForThisName, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName:
		return []fault{{faultUsage, everybody, "a CA above it may not sign for its names (name constraints): " + Escape(invalid.Detail)}}
	case x509.TooManyIntermediates:
		return []fault{{faultIssuer, everybody, "its chain has more CAs than one of them allows below itself (path length)"}}
	case x509.CANotAuthorizedForExtKeyUsage:
		return []fault{{faultUsage, everybody, "a CA above it may not sign for servers (extended key usage)"}}
	}

	return nil
}

// judgeClient finds what keeps a client's certificate from being accepted, whatever CAs the site has.
func (c *Certificate) judgeClient(leaf *x509.Certificate) {
	c.leaf = leaf
	c.selfSigned = bytes.Equal(leaf.RawIssuer, leaf.RawSubject) && signed(leaf, leaf)
	c.alone = c.ChainLength == 1 && !c.selfSigned
	limited := len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0
	if limited && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		c.faults = append(c.faults, fault{faultUsage, everybody, "it is not for clients (no clientAuth in its extended key usage)"})
	}
	if outdated(leaf.SignatureAlgorithm) && !c.selfSigned {
		c.faults = append(c.faults, fault{faultSignature, everybody, "it is signed with " + leaf.SignatureAlgorithm.String() + ", which is refused"})
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 1024 {
		c.faults = append(c.faults, fault{faultKey, everybody, fmt.Sprintf("its RSA key has only %d bits", key.N.BitLen())})
	}

	c.Problems = texts(c.faults, browsers)
}

// against adds the problems that the name asked for and the day make. The name is empty for a client's certificate.
func (c *Certificate) against(name string, now time.Time) *Certificate {
	var more []fault
	switch {
	case now.After(c.NotAfter):
		more = append(more, fault{faultExpired, everybody, "it expired on " + c.NotAfter.UTC().Format(time.DateOnly)})
	case now.Before(c.NotBefore):
		more = append(more, fault{faultEarly, everybody, "it is not valid before " + c.NotBefore.UTC().Format(time.DateOnly)})
	case !c.firstUntil.IsZero() && now.After(c.firstUntil):
		more = append(more, fault{faultExpired, everybody, "its intermediate certificate " + c.firstName + " expired on " + c.firstUntil.UTC().Format(time.DateOnly)})
	}

	if name != "" && len(c.Names) > 0 && !c.covers(name) {
		more = append(more, fault{faultName, everybody, c.misnamed(name)})
	}
	if len(more) == 0 {
		return c
	}

	// The description is shared by all handshakes with this certificate, so the copy gets the faults of this one.
	judged := *c
	judged.faults = append(slices.Clip(c.faults), more...)
	judged.Problems = texts(judged.faults, browsers)
	return &judged
}

// misnamed says that a certificate does not have a name, and what it has instead.
func (c *Certificate) misnamed(name string) string {
	text := "it is not for " + name
	if slices.Contains(c.Names, name) {
		return text + " as an address, but as a DNS name" // an address among the DNS names
	}
	shown := c.Names[:min(3, len(c.Names))]
	if more := len(c.Names) - len(shown); more > 0 {
		shown = append(slices.Clip(shown), fmt.Sprintf("%d more", more))
	}
	return text + " (but for " + list(shown) + ")"
}

// covers is RFC 9525 section 6.3: a wildcard stands for exactly one label, and an address is compared with addresses
// only.
func (c *Certificate) covers(name string) bool {
	// RFC 9110 section 4.3.5: an address in the URL is compared with iPAddress only, even where a DNS name has the
	// same text.
	if address := net.ParseIP(name); address != nil && c.leaf != nil {
		return slices.ContainsFunc(c.leaf.IPAddresses, address.Equal)
	}
	return slices.ContainsFunc(c.Names, func(pattern string) bool { return netname.Match(pattern, name) })
}

// dotless reports whether a certificate has a name without a dot, as localhost, which some clients (Java) do not send
// though they expect it.
func (c *Certificate) dotless() bool {
	return slices.ContainsFunc(c.Names, func(name string) bool { return !strings.ContainsAny(name, ".:") })
}
