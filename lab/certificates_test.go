package lab

import (
	"bytes"
	"crypto"
	"crypto/md5"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"padlock/lab/pki"
)

// fault is what is wrong with a chain, as others see it who did not make it.
type fault struct {
	has    string // what findings says, separated by "; "
	says   string // the complaints of openssl verify -x509_strict, each with its depth, separated by "; "; "": none
	pardon func(*verification)
}

// verification is a call of openssl verify. A pardon changes it so that openssl passes over the fault: what it says then
// would be a second one.
type verification struct {
	leaf      []byte
	untrusted [][]byte
	trusted   []byte
	name      []string
	purpose   []string
	level     string
	more      []string
	maker     *pki.Maker
}

func flag(flags ...string) func(*verification) {
	return func(v *verification) { v.more = append(v.more, flags...) }
}

func anyName(v *verification)    { v.name = nil }
func anyPurpose(v *verification) { v.purpose = nil }
func anyKey(v *verification)     { v.level = "0" }

// trusting has a certificate of the chain be the root.
func trusting(n int) func(*verification) {
	return func(v *verification) {
		v.trusted = v.leaf
		if n > 0 {
			v.trusted = v.untrusted[n-1]
		}
		v.more = append(v.more, "-partial_chain")
	}
}

// withIssuer sends a CA that is missing.
func withIssuer(name string) func(*verification) {
	return func(v *verification) { v.untrusted = append(v.untrusted, v.maker.CA(name, v.maker.Root, nil).Cert.Raw) }
}

var (
	late      = fault{"leaf: expired", "certificate has expired@0", flag("-no_check_time")}
	early     = fault{"leaf: not yet valid", "certificate is not yet valid@0", flag("-no_check_time")}
	otherName = fault{"leaf: name", "hostname mismatch@0", anyName}
)

// chainFaults has every endpoint of the group whose certificates are not simply right.
var chainFaults = map[string]fault{
	"expired": late, "expired-long-ago": late, "not-yet-valid": early,
	"expired-intermediate": {"CA 1: expired", "certificate has expired@1", flag("-no_check_time")},
	"valid-500-days":       {has: "leaf: lifetime"}, "valid-until-9999": {has: "leaf: lifetime"},

	"self-signed":          {"leaf: self-signed", "self-signed certificate@0", trusting(0)},
	"untrusted-root":       {"CA 2: self-signed", "self-signed certificate in certificate chain@2", trusting(2)},
	"same-name-ca":         {"CA 1: signature", "certificate signature failure@1", trusting(1)},
	"incomplete-chain":     {"leaf: no issuer", "unable to get local issuer certificate@0", withIssuer("intermediate that is never sent")},
	"incomplete-chain-aia": {"leaf: issuer by URL; leaf: no issuer", "unable to get local issuer certificate@0", withIssuer("intermediate-by-url")},
	"extra-certificates":   {has: "CA 1: self-signed"},
	// The second certificate of the issuer leads to the trusted root; openssl takes the first and looks no further.
	"cross-signed":       {"CA 1: no issuer", "unable to get local issuer certificate@1", func(v *verification) { v.untrusted = v.untrusted[1:] }},
	"expired-cross-root": {has: "CA 2: expired; CA 2: no issuer"},
	"invalid-signature":  {"leaf: signature", "certificate signature failure@0", func(v *verification) { v.leaf = v.maker.Flip(v.leaf) }},
	"invalid-ca-signature": {"CA 1: signature", "certificate signature failure@1", func(v *verification) {
		v.untrusted = [][]byte{v.maker.Flip(v.untrusted[0])}
	}},

	"revoked-crl": {has: "leaf: CRL"}, "revoked-ocsp": {has: "leaf: OCSP"}, "revoked-intermediate": {has: "CA 1: CRL"}, "good-crl-ocsp": {has: "leaf: CRL; leaf: OCSP"},
	"ocsp-unreachable": {has: "leaf: OCSP"}, "must-staple": {has: "leaf: extension 1.3.6.1.5.5.7.1.24"},

	"md5":               {"leaf: MD5", "CA signature digest algorithm too weak@0", anyKey},
	"sha1":              {"leaf: SHA-1", "CA signature digest algorithm too weak@0", anyKey},
	"sha1-intermediate": {"CA 1: SHA-1", "CA signature digest algorithm too weak@1", anyKey},
	"rsa-1024":          {"leaf: 1024 bits", "EE certificate key too weak@0", anyKey}, "rsa-1024-intermediate": {"CA 1: 1024 bits", "CA certificate key too weak@1", anyKey},

	"wrong-host": otherName, "wrong-subdomain": otherName, "common-name-beside-san": otherName, "wildcard-too-deep": otherName, "wildcard-parent": otherName, "wildcard-inside": otherName,
	"wildcard-top-level": {"", "hostname mismatch@0", anyName}, "wildcard-alone": otherName, "name-with-nul": otherName, "name-as-uri": otherName, "address-for-name": otherName, "no-names": otherName,
	"common-name-only": {has: "leaf: name"}, "wildcard-partial": {has: "leaf: name"},

	"name-constraints":          {has: "CA 1: constraints"},
	"name-constraints-violated": {"CA 1: constraints", "permitted subtree violation@0", nil},
	"name-constraints-excluded": {"CA 1: constraints", "excluded subtree violation@0", nil},
	"common-name-constrained":   {"CA 1: constraints; leaf: name", "permitted subtree violation@0", nil},
	"leaf-as-ca":                {"CA 1: no CA; CA 1: purpose; CA 1: usage", "invalid CA certificate@1; unsuitable certificate purpose@1; key usage does not include certificate signing@1", nil},
	"ca-without-flag":           {"CA 1: no CA", "invalid CA certificate@1; Key usage keyCertSign invalid for non-CA cert@1", nil},
	"ca-without-key-cert-sign":  {"CA 1: usage", "invalid CA certificate@1; unsuitable certificate purpose@1; key usage does not include certificate signing@1", nil},
	"path-length":               {"CA 2: too many CAs below", "path length constraint exceeded@2", nil},
	"eku-client":                {"leaf: purpose", "unsuitable certificate purpose@0", anyPurpose},
	"eku-ca":                    {"CA 1: purpose", "unsuitable certificate purpose@1", anyPurpose},
	"eku-none":                  {has: "leaf: purpose"}, "eku-any": {"leaf: purpose", "unsuitable certificate purpose@0", anyPurpose},
	"key-usage":             {has: "leaf: usage"},
	"critical-extension":    {"leaf: critical extension", "unhandled critical extension@0", flag("-ignore_critical")},
	"critical-extension-ca": {"CA 1: critical extension", "unhandled critical extension@1", flag("-ignore_critical")},
	"unknown-extension":     {has: "leaf: extension 1.3.6.1.4.1.55555.2"}, "chain-60k": {has: "CA 1: extension 1.3.6.1.4.1.55555.3"},
	"serial-1": {has: "leaf: serial number"},
}

// Each chain has the fault that its endpoint claims, and no other: by crypto/x509's reader, and by OpenSSL, which tells
// all that it finds, and finds nothing once it passes over the fault.
func TestEachChainHasItsFaultAlone(t *testing.T) {
	t.Parallel()
	l := opened(t, Options{})
	openssl := installed(t, "openssl")
	for name := range chainFaults {
		if e := l.named(name); e == nil || e.Group != Certificates {
			t.Errorf("%s is not an endpoint with a certificate", name)
		}
	}
	for _, e := range l.endpoints {
		if e.Group != Certificates && e.Name != "good-wildcard" {
			continue
		}
		want := chainFaults[e.Name]
		for _, c := range chainsFor(t, l, e) {
			if has := findings(t, c, e.Hostname(), l.authority.Root.Cert); strings.Join(has, "; ") != want.has {
				t.Errorf("%s has %q, not %q", e.Name, has, want.has)
			}
			v := &verification{
				leaf: c.Certificate[0], untrusted: c.Certificate[1:], trusted: l.authority.Root.Cert.Raw, level: "2",
				name: []string{"-verify_hostname", e.Hostname()}, purpose: []string{"-purpose", "sslserver"}, maker: l.authority.Maker(e.Hostname()),
			}
			if net.ParseIP(e.Hostname()) != nil {
				v.name[0] = "-verify_ip"
			}
			if says := v.run(t, openssl); says != want.says {
				t.Errorf("%s: openssl says %q, not %q", e.Name, says, want.says)
			}
			if want.pardon == nil {
				continue
			}
			want.pardon(v)
			if says := v.run(t, openssl); says != "" {
				t.Errorf("%s: openssl finds %q beside the fault", e.Name, says)
			}
		}
	}
}

// installed is a program that a test needs.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

func chainsFor(t *testing.T, l *Lab, e *Endpoint) (all []*tls.Certificate) {
	t.Helper()
	for _, makeChain := range e.makers() {
		m := l.authority.Maker(e.Hostname())
		c := makeChain(m)
		if m.Err() != nil {
			t.Fatal(m.Err())
		}
		all = append(all, c)
	}
	return all
}

// run is all that openssl has to say, as error@depth.
func (v *verification) run(t *testing.T, openssl string) string {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", written(t, dir, "root", v.trusted), "-auth_level", v.level}, v.more...)
	args = append(append(args, v.name...), v.purpose...)
	if len(v.untrusted) > 0 {
		args = append(args, "-untrusted", written(t, dir, "untrusted", v.untrusted...))
	}
	out, _ := exec.Command(openssl, append(args, written(t, dir, "leaf", v.leaf))...).CombinedOutput()

	var says []string
	for _, m := range regexp.MustCompile(`(?m)^error \d+ at (\d+) depth lookup: (.*)$`).FindAllSubmatch(out, -1) {
		says = append(says, fmt.Sprintf("%s@%s", m[2], m[1]))
	}
	if len(says) == 0 && !bytes.Contains(out, []byte(": OK")) {
		t.Errorf("openssl %q: %s", args, out)
	}
	return strings.Join(says, "; ")
}

func written(t *testing.T, dir, name string, ders ...[]byte) string {
	t.Helper()
	var b bytes.Buffer
	for _, der := range ders {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	name = filepath.Join(dir, name+".pem")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// findings are all respects in which the certificates of a chain are not as usual, sorted.
func findings(t *testing.T, c *tls.Certificate, host string, root *x509.Certificate) (found []string) {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range c.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(host, err)
		}
		chain = append(chain, cert)
	}

	for i, cert := range chain {
		who, what := "leaf", ofLeaf(cert, host)
		if i > 0 {
			who, what = fmt.Sprintf("CA %d", i), ofCA(cert, i, chain)
		}
		what = append(what, ofAny(cert)...)
		what = append(what, ofIssuer(cert, append(slices.Clone(chain[1:]), root), root)...)
		for _, text := range what {
			found = append(found, who+": "+text)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func ofLeaf(c *x509.Certificate, host string) (what []string) {
	if c.VerifyHostname(host) != nil {
		what = append(what, "name")
	}
	if c.IsCA || !c.BasicConstraintsValid {
		what = append(what, "CA")
	}
	if c.KeyUsage&x509.KeyUsageDigitalSignature == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0 {
		what = append(what, "usage")
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || len(c.UnknownExtKeyUsage) > 0 {
		what = append(what, "purpose")
	}
	// The most that the CA/B Forum allowed when the lab was written.
	if c.NotAfter.Sub(c.NotBefore) > 398*pki.Day {
		what = append(what, "lifetime")
	}
	return what
}

// ofCA looks at the nth certificate of a chain that is in order, which has n-1 CAs below it.
func ofCA(c *x509.Certificate, n int, chain []*x509.Certificate) (what []string) {
	if !c.IsCA || !c.BasicConstraintsValid {
		what = append(what, "no CA")
	}
	if c.KeyUsage&x509.KeyUsageCertSign == 0 {
		what = append(what, "usage")
	}
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 {
		what = append(what, "purpose")
	}
	if limited := c.MaxPathLen > 0 || c.MaxPathLenZero; limited && bytes.Equal(chain[n-1].RawIssuer, c.RawSubject) && n-1 > c.MaxPathLen {
		what = append(what, "too many CAs below")
	}
	if len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains) > 0 {
		what = append(what, "constraints")
	}
	if len(c.SubjectKeyId) == 0 {
		what = append(what, "no key identifier")
	}
	return what
}

func ofAny(c *x509.Certificate) (what []string) {
	now := time.Now()
	if now.After(c.NotAfter) {
		what = append(what, "expired")
	}
	if now.Before(c.NotBefore) {
		what = append(what, "not yet valid")
	}
	if c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() < 64 {
		what = append(what, "serial number")
	}
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 2048 {
		what = append(what, fmt.Sprintf("%d bits", key.N.BitLen()))
	}
	if len(c.UnhandledCriticalExtensions) > 0 {
		what = append(what, "critical extension")
	}
	if len(c.CRLDistributionPoints) > 0 {
		what = append(what, "CRL")
	}
	if len(c.OCSPServer) > 0 {
		what = append(what, "OCSP")
	}
	if len(c.IssuingCertificateURL) > 0 {
		what = append(what, "issuer by URL")
	}
	for _, e := range c.Extensions {
		// Those of 2.5.29 and the authority's information are looked at above.
		if id := e.Id.String(); !e.Critical && !strings.HasPrefix(id, "2.5.29.") && id != "1.3.6.1.5.5.7.1.1" {
			what = append(what, "extension "+id)
		}
	}
	return what
}

// ofIssuer looks for a certificate that has signed another one.
func ofIssuer(c *x509.Certificate, others []*x509.Certificate, root *x509.Certificate) []string {
	if c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil && !c.Equal(root) {
		return []string{"self-signed"}
	}
	missing := "no issuer"
	for _, by := range others {
		if !bytes.Equal(by.RawSubject, c.RawIssuer) {
			continue
		}
		if weak, signed := signedBy(c, by); signed {
			return weak
		}
		missing = "signature"
	}
	return []string{missing}
}

// signedBy also reads the algorithms that crypto/x509 refuses.
func signedBy(c, by *x509.Certificate) (weak []string, signed bool) {
	var hash crypto.Hash
	var sum []byte
	switch c.SignatureAlgorithm {
	case x509.MD5WithRSA:
		h := md5.Sum(c.RawTBSCertificate)
		hash, sum, weak = crypto.MD5, h[:], []string{"MD5"}
	case x509.SHA1WithRSA:
		h := sha1.Sum(c.RawTBSCertificate)
		hash, sum, weak = crypto.SHA1, h[:], []string{"SHA-1"}
	default:
		return nil, by.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	}
	key, ok := by.PublicKey.(*rsa.PublicKey)
	return weak, ok && rsa.VerifyPKCS1v15(key, hash, sum, c.Signature) == nil
}
