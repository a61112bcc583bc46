package lab

import (
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"padlock/lab/pki"
)

// chain makes the certificate of an endpoint.
type chain = func(*pki.Maker) *tls.Certificate

func one(c chain) []chain { return []chain{c} }

// leaf is a certificate on P-256 of the good intermediate, with what the change makes of it.
func leaf(change func(*x509.Certificate)) chain {
	return func(m *pki.Maker) *tls.Certificate { return m.Chain(change) }
}

func rsaLeaf(bits int, change func(*x509.Certificate)) chain {
	return func(m *pki.Maker) *tls.Certificate { return m.ChainWith(m.Inter, m.RSA(bits), change, m.Inter) }
}

func ecLeaf(curve elliptic.Curve) chain {
	return func(m *pki.Maker) *tls.Certificate { return m.ChainWith(m.Inter, m.EC(curve), nil, m.Inter) }
}

// named is a leaf for other names than the endpoint's.
func named(names ...string) chain {
	return leaf(func(t *x509.Certificate) { t.DNSNames, t.Subject.CommonName = names, "" })
}

// below is a leaf of a CA of its own, which is sent with it.
func below(name string, change func(*x509.Certificate)) chain {
	return func(m *pki.Maker) *tls.Certificate {
		ca := m.CA(name, m.Root, change)
		return m.ChainWith(ca, m.Key(), nil, ca)
	}
}

// certificates are the endpoints whose fault is in a certificate.
func certificates() []Endpoint {
	var all []Endpoint
	for _, list := range [][]Endpoint{validity(), trustInChains(), revocations(), strengths(), names(), constraints(), sizes()} {
		all = append(all, list...)
	}
	for i := range all {
		all[i].Group = Certificates
	}
	return all
}

const anybody = "Anybody on the network path can pose as any server: passwords, cookies and content are theirs."

func validity() []Endpoint {
	return []Endpoint{
		{
			Name: "expired", Expect: MustRefuse, Wrong: "The certificate expired two days ago.", Rule: "RFC 5280 section 6.1.3 (a)(2)",
			Consequence: "Keys that leaked long ago, and names that were sold since, still pass for the site.",
			chains:      one(leaf(func(t *x509.Certificate) { t.NotBefore, t.NotAfter = ago(100), ago(2) })),
		},
		{
			Name: "expired-long-ago", Expect: MustRefuse, Wrong: "The certificate expired in 2015.", Rule: "RFC 5280 section 6.1.3 (a)(2)",
			Consequence: "Keys that leaked long ago, and names that were sold since, still pass for the site.",
			chains: one(leaf(func(t *x509.Certificate) {
				t.NotBefore, t.NotAfter = time.Date(2014, 4, 9, 0, 0, 0, 0, time.UTC), time.Date(2015, 4, 12, 23, 59, 59, 0, time.UTC)
			})),
		},
		{
			Name: "not-yet-valid", Expect: MustRefuse, Wrong: "The certificate becomes valid in a year.", Rule: "RFC 5280 section 6.1.3 (a)(2)",
			Consequence: "The dates of certificates mean nothing to the client.",
			chains:      one(leaf(func(t *x509.Certificate) { t.NotBefore, t.NotAfter = ago(-365), ago(-455) })),
		},
		{
			Name: "expired-intermediate", Expect: MustRefuse, Wrong: "The leaf is valid; the intermediate CA expired two days ago.", Rule: "RFC 5280 section 6.1.3 (a)(2), for each certificate of the path",
			Consequence: "A CA that was retired can still sign for every site.",
			chains:      one(below("expired intermediate", func(t *x509.Certificate) { t.NotBefore, t.NotAfter = ago(1000), ago(2) })),
		},
		{
			Name: "valid-500-days", Expect: May, Wrong: "The certificate is valid for 500 days.", Rule: "CA/B Baseline Requirements section 6.3.2, which binds public CAs only",
			Consequence: "Nothing for a private CA. Certificates of public CAs this long are misissued, and browsers refuse them.",
			chains:      one(leaf(func(t *x509.Certificate) { t.NotAfter = t.NotBefore.Add(500 * pki.Day) })),
		},
		{
			Name: "valid-until-9999", Expect: May, Wrong: "The certificate is valid until 9999-12-31, which is a GeneralizedTime.", Rule: "RFC 5280 section 4.1.2.5",
			Consequence: "A client that cannot read dates after 2049 fails with certificates of devices.",
			chains:      one(leaf(func(t *x509.Certificate) { t.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) })),
		},
	}
}

// ago is a moment before now, in days.
func ago(days int) time.Time { return time.Now().Add(-time.Duration(days) * pki.Day) }

func trustInChains() []Endpoint {
	return []Endpoint{
		{
			Name: "self-signed", Expect: MustRefuse, Wrong: "The certificate is signed by its own key.", Rule: "RFC 5280 section 6.1.1 (d)", Consequence: anybody,
			chains: one(func(m *pki.Maker) *tls.Certificate { return m.SelfSigned() }),
		},
		{
			Name: "untrusted-root", Expect: MustRefuse, Wrong: "The chain is complete and right, and ends at a root that the client does not have.", Rule: "RFC 5280 section 6.1.1 (d)", Consequence: anybody,
			chains: one(func(m *pki.Maker) *tls.Certificate {
				root := m.CA("unknown root", nil, nil)
				inter := m.CA("intermediate of an unknown root", root, nil)
				return m.ChainWith(inter, m.Key(), nil, inter, root)
			}),
		},
		{
			Name: "same-name-ca", Expect: MustRefuse, Wrong: "The issuer has the name and the key identifier of the trusted intermediate, and another key. It is sent in its place.", Rule: "RFC 5280 section 6.1.3 (a)(1)", Consequence: anybody,
			chains: one(func(m *pki.Maker) *tls.Certificate {
				root := m.CA("same name root", nil, func(t *x509.Certificate) { twin(t, m.Root) })
				inter := m.CA("same name intermediate", root, func(t *x509.Certificate) { twin(t, m.Inter) })
				return m.ChainWith(inter, m.Key(), nil, inter)
			}),
		},
		{
			Name: "reissued-ca", Expect: MustAccept, Wrong: "Nothing: the intermediate was issued a second time, with the same name and key and another serial number.", Rule: "RFC 5280 section 6.1",
			Consequence: "Sites fail when their CA renews its own certificate.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				again := m.CAWith("reissued intermediate", m.Root, m.Inter.Key, func(t *x509.Certificate) { twin(t, m.Inter) })
				return m.ChainWith(m.Inter, m.Key(), nil, again)
			}),
		},
		{
			Name: "incomplete-chain", Expect: MustRefuse, Wrong: "The intermediate is missing, and nothing says where to find it.", Rule: "RFC 8446 section 4.4.2, RFC 5280 section 6.1",
			Consequence: "The client trusts a certificate without a path to a root.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				return m.ChainWith(m.CA("intermediate that is never sent", m.Root, nil), m.Key(), nil)
			}),
		},
		{
			Name: "incomplete-chain-aia", Expect: May, Wrong: "The intermediate is missing; the leaf names the URL where it can be downloaded.", Rule: "RFC 5280 section 4.2.2.1",
			Consequence: "Browsers download it, most programs do not: such servers seem right in one and fail in the other.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				ca := m.CA("intermediate-by-url", m.Root, nil)
				return m.ChainWith(ca, m.Key(), func(t *x509.Certificate) {
					t.IssuingCertificateURL = []string{m.StatusURL() + "/issuer/intermediate-by-url"}
				})
			}),
		},
		{
			Name: "wrong-order", Expect: ShouldAccept, Wrong: "Two intermediates are sent in the wrong order.", Rule: "RFC 8446 section 4.4.2: clients should be prepared for any order",
			Consequence: "The client fails at servers that others can use.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				first := m.CA("first of two", m.Root, nil)
				second := m.CA("second of two", first, nil)
				return m.ChainWith(second, m.Key(), nil, first, second)
			}),
		},
		{
			Name: "extra-certificates", Expect: ShouldAccept, Wrong: "Certificates that have nothing to do with the chain are sent with it.", Rule: "RFC 8446 section 4.4.2: clients should be prepared for extraneous certificates",
			Consequence: "The client fails at servers that others can use.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				return m.ChainWith(m.Inter, m.Key(), nil, m.CA("unknown root", nil, nil), m.Inter, m.CA("unrelated", m.Root, nil))
			}),
		},
		{
			Name: "root-sent", Expect: MustAccept, Wrong: "Nothing: the trusted root is sent too, which a server may leave out.", Rule: "RFC 8446 section 4.4.2",
			Consequence: "The client fails at many servers.",
			chains:      one(func(m *pki.Maker) *tls.Certificate { return m.ChainWith(m.Inter, m.Key(), nil, m.Inter, m.Root) }),
		},
		{
			Name: "cross-signed", Expect: ShouldAccept, Wrong: "Two certificates of the issuer are sent: the first leads to an unknown root, the second to the trusted one.", Rule: "RFC 4158: path building",
			Consequence: "The client fails whenever a CA changes to a new root.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				old := m.CA("old unknown root", nil, nil)
				key := m.Key()
				name := func(t *x509.Certificate) { t.Subject.CommonName = "padlock lab cross-signed intermediate" }
				cross := m.CAWith("cross-signed by the old root", old, key, name)
				own := m.CAWith("cross-signed by the root", m.Root, cross.Key, name)
				return m.ChainWith(own, m.Key(), nil, cross, own)
			}),
		},
		{
			Name: "expired-cross-root", Expect: ShouldAccept, Wrong: "The chain goes on above the trusted root, to an old root that expired: as in May 2020 and September 2021.", Rule: "RFC 4158, RFC 5280 section 6.1: the trusted root ends the path",
			Consequence: "The client fails everywhere on the day on which an old root expires.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				old := m.CA("expired old root", nil, func(t *x509.Certificate) { t.NotBefore, t.NotAfter = ago(1000), ago(2) })
				cross := m.CAWith("root by the expired root", old, m.Root.Key, func(t *x509.Certificate) {
					twin(t, m.Root)
					t.NotBefore, t.NotAfter = ago(1000), ago(2)
				})
				return m.ChainWith(m.Inter, m.Key(), nil, m.Inter, cross)
			}),
		},
		{
			Name: "invalid-signature", Expect: MustRefuse, Wrong: "A bit of the CA's signature on the leaf is wrong.", Rule: "RFC 5280 section 6.1.3 (a)(1)", Consequence: anybody,
			chains: one(func(m *pki.Maker) *tls.Certificate {
				c := m.Chain(nil)
				c.Certificate[0] = m.Flip(c.Certificate[0])
				return c
			}),
		},
		{
			Name: "invalid-ca-signature", Expect: MustRefuse, Wrong: "A bit of the root's signature on the intermediate is wrong.", Rule: "RFC 5280 section 6.1.3 (a)(1)", Consequence: anybody,
			chains: one(func(m *pki.Maker) *tls.Certificate {
				ca := m.CA("intermediate with a wrong signature", m.Root, nil)
				c := m.ChainWith(ca, m.Key(), nil, ca)
				c.Certificate[1] = m.Flip(c.Certificate[1])
				return c
			}),
		},
	}
}

// twin has a template pass for a CA that exists.
func twin(t *x509.Certificate, of *pki.CA) {
	t.Subject, t.SubjectKeyId = of.Cert.Subject, of.Cert.SubjectKeyId
}

const revokedText = "The owner has reported the key as stolen, and the thief can still use it."

func revocations() []Endpoint {
	return []Endpoint{
		{
			Name: "revoked-crl", Expect: ShouldRefuse, Wrong: "The certificate is revoked by a list (CRL) that its CRL distribution point names.", Rule: "RFC 5280 section 6.1.3 (a)(3) and 6.3", Consequence: revokedText,
			chains: one(func(m *pki.Maker) *tls.Certificate {
				return m.Chain(func(t *x509.Certificate) {
					t.CRLDistributionPoints = []string{m.Watch(t, m.Inter, true) + "/crl/" + t.SerialNumber.String()}
				})
			}),
		},
		{
			Name: "revoked-ocsp", Expect: ShouldRefuse, Wrong: "The certificate is revoked: so says the OCSP responder that it names.", Rule: "RFC 6960, RFC 5280 section 4.2.2.1", Consequence: revokedText,
			chains: one(func(m *pki.Maker) *tls.Certificate {
				return m.Chain(func(t *x509.Certificate) { t.OCSPServer = []string{m.Watch(t, m.Inter, true) + "/ocsp"} })
			}),
		},
		{
			Name: "revoked-intermediate", Expect: ShouldRefuse, Wrong: "The intermediate CA is revoked by the list that its CRL distribution point names.", Rule: "RFC 5280 section 6.1.3 (a)(3) and 6.3",
			Consequence: "A CA whose key was stolen can still sign for every site.",
			chains: one(below2("revoked intermediate", func(m *pki.Maker, t *x509.Certificate) {
				t.CRLDistributionPoints = []string{m.Watch(t, m.Root, true) + "/crl/" + t.SerialNumber.String()}
			})),
		},
		{
			Name: "good-crl-ocsp", Expect: MustAccept, Wrong: "Nothing: the responder and the list say that the certificate is good.", Rule: "RFC 6960",
			Consequence: "The client fails at certificates of private CAs that run a responder.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				return m.Chain(func(t *x509.Certificate) {
					url := m.Watch(t, m.Inter, false)
					t.OCSPServer, t.CRLDistributionPoints = []string{url + "/ocsp"}, []string{url + "/crl/" + t.SerialNumber.String()}
				})
			}),
		},
		{
			Name: "ocsp-unreachable", Expect: May, Wrong: "The OCSP responder that the certificate names does not answer.", Rule: "RFC 6960; local policy",
			Consequence: "A client that goes on can be kept from the responder by whoever uses a stolen key; one that refuses fails whenever the responder does.",
			chains:      one(leaf(func(t *x509.Certificate) { t.OCSPServer = []string{"http://127.0.0.1:1/ocsp"} })),
		},
		{
			Name: "staple-good", Expect: MustAccept, Wrong: "Nothing: a fresh OCSP response is stapled.", Rule: "RFC 6066 section 8", Consequence: "The client fails at most public sites.",
			chains: one(stapled(ocsp.Good, 0, nil)),
		},
		{
			Name: "staple-revoked", Expect: MustRefuse, Wrong: "The stapled OCSP response says that the certificate is revoked.", Rule: "RFC 6066 section 8: whoever asks for the response must check it", Consequence: revokedText,
			chains: one(stapled(ocsp.Revoked, 0, nil)), basis: "staple-good", tuned: staples,
		},
		{
			Name: "staple-expired", Expect: ShouldRefuse, Wrong: "The stapled OCSP response was valid until eight days ago.", Rule: "RFC 6960 section 3.2, RFC 6066 section 8",
			Consequence: "A thief staples the response of before the revocation.",
			chains:      one(stapled(ocsp.Good, 10, nil)), basis: "staple-good", tuned: staples,
		},
		{
			Name: "staple-other-signer", Expect: ShouldRefuse, Wrong: "The stapled OCSP response is signed by a CA that has not issued the certificate.", Rule: "RFC 6960 section 4.2.2.2, RFC 6066 section 8",
			Consequence: "A thief staples a response of his own.",
			chains:      one(stapled(ocsp.Good, 0, func(m *pki.Maker) *pki.CA { return m.CA("unknown root", nil, nil) })), basis: "staple-good", tuned: staples,
		},
		{
			Name: "must-staple", Expect: ShouldRefuse, Wrong: "The certificate demands a stapled OCSP response (must-staple), and none is stapled.", Rule: "RFC 7633",
			Consequence: "A thief of the key leaves the response out; that is what the owner has paid must-staple for.",
			chains: one(leaf(func(t *x509.Certificate) {
				pki.Extension(t, false, []byte{0x30, 3, 2, 1, 5}, 1, 3, 6, 1, 5, 5, 7, 1, 24)
			})),
			tuned: staples,
		},
	}
}

// below2 is below for a CA that needs the maker.
func below2(name string, change func(*pki.Maker, *x509.Certificate)) chain {
	return func(m *pki.Maker) *tls.Certificate {
		// The serial must be known to the revocation server, whose lock the maker holds while it makes a CA.
		template := m.CATemplate(name)
		change(m, template)
		ca := m.CA(name, m.Root, func(t *x509.Certificate) { *t = *template })
		return m.ChainWith(ca, m.Key(), nil, ca)
	}
}

// staples expects nothing of clients that do not ask for a response: none is sent to them.
func staples(hello *tls.ClientHelloInfo) string {
	const statusRequest = 5
	if slices.Contains(hello.Extensions, statusRequest) {
		return ""
	}
	return "it does not ask for a stapled response"
}

func stapled(status, days int, signer func(*pki.Maker) *pki.CA) chain {
	return func(m *pki.Maker) *tls.Certificate {
		by := m.Inter
		if signer != nil {
			by = signer(m)
		}
		c := m.Chain(nil)
		c.OCSPStaple = m.Staple(c.Certificate[0], m.Inter, by, status, ago(days).Add(-time.Hour))
		return c
	}
}

const weakKey = "Whoever can spend some money computes the private key, and poses as the site."
const collision = "Whoever can make two certificates with one hash gets a second one signed, for any name, by a CA that never saw it."

func strengths() []Endpoint {
	return []Endpoint{
		{
			Name: "md5", Expect: MustRefuse, Wrong: "The leaf is signed with MD5.", Rule: "RFC 8446 section 4.4.2.4: clients must abort", Consequence: collision, basis: "rsa-intermediate",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				ca := rsaCA(m)
				c := m.ChainWith(ca, m.Key(), nil, ca)
				c.Certificate[0] = m.MD5(c.Certificate[0], ca.Key.(*rsa.PrivateKey))
				return c
			}),
		},
		{
			Name: "sha1", Expect: ShouldRefuse, Wrong: "The leaf is signed with SHA-1.", Rule: "RFC 8446 section 4.4.2.4: recommended; CA/B Baseline Requirements section 7.1.3.2", Consequence: collision, basis: "rsa-intermediate",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				ca := rsaCA(m)
				return m.ChainWith(ca, m.Key(), func(t *x509.Certificate) { t.SignatureAlgorithm = x509.SHA1WithRSA }, ca)
			}),
		},
		{
			Name: "sha1-intermediate", Expect: ShouldRefuse, Wrong: "The intermediate is signed with SHA-1.", Rule: "RFC 8446 section 4.4.2.4: recommended; CA/B Baseline Requirements section 7.1.3.2", Consequence: collision, basis: "rsa-intermediate",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				top := rsaCA(m)
				ca := m.CA("intermediate by SHA-1", top, func(t *x509.Certificate) { t.SignatureAlgorithm = x509.SHA1WithRSA })
				return m.ChainWith(ca, m.Key(), nil, ca, top)
			}),
		},
		{
			Name: "rsa-intermediate", Expect: MustAccept, Wrong: "Nothing: an RSA CA signs with SHA-256.", Rule: "RFC 8446 section 9.1", Consequence: "The client fails at most public sites.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				ca := rsaCA(m)
				return m.ChainWith(ca, m.Key(), nil, ca)
			}),
		},
		{
			Name: "rsa-1024", Expect: ShouldRefuse, Wrong: "The leaf's RSA key has 1,024 bits.", Rule: "CA/B Baseline Requirements section 6.1.5, NIST SP 800-131A", Consequence: weakKey, basis: "rsa-2048",
			chains: one(rsaLeaf(1024, nil)),
		},
		{
			Name: "rsa-1024-intermediate", Expect: ShouldRefuse, Wrong: "The intermediate's RSA key has 1,024 bits.", Rule: "CA/B Baseline Requirements section 6.1.5, NIST SP 800-131A", Consequence: weakKey, basis: "rsa-2048",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				ca := m.CAWith("intermediate with 1,024 bits", m.Root, m.RSA(1024), nil)
				return m.ChainWith(ca, m.Key(), nil, ca)
			}),
		},
		{Name: "rsa-2048", Expect: MustAccept, Wrong: "Nothing: an RSA key of 2,048 bits.", Rule: "RFC 8446 section 9.1", Consequence: "The client fails at most public sites.", chains: one(rsaLeaf(2048, nil))},
		{Name: "rsa-4096", Expect: ShouldAccept, Wrong: "Nothing: an RSA key of 4,096 bits.", Rule: "RFC 8446 section 9.1", Consequence: "The client fails at careful sites.", chains: one(rsaLeaf(4096, nil))},
		{Name: "rsa-8192", Expect: May, Wrong: "An RSA key of 8,192 bits, which costs the client some milliseconds.", Rule: "none; crypto/tls and others bound the size", Consequence: "Large keys cost much CPU, so clients bound them, most at 8,192 or 16,384 bits.", chains: one(rsaLeaf(8192, nil))},
		{Name: "ecdsa-p256", Expect: MustAccept, Wrong: "Nothing: an ECDSA key on P-256.", Rule: "RFC 8446 section 9.1", Consequence: "The client fails at most public sites.", chains: one(ecLeaf(elliptic.P256()))},
		{Name: "ecdsa-p384", Expect: ShouldAccept, Wrong: "Nothing: an ECDSA key on P-384.", Rule: "CA/B Baseline Requirements section 6.1.5", Consequence: "The client fails at careful sites.", chains: one(ecLeaf(elliptic.P384()))},
		{Name: "ecdsa-p521", Expect: May, Wrong: "An ECDSA key on P-521.", Rule: "CA/B Baseline Requirements section 6.1.5; browsers differ", Consequence: "Servers with such a certificate exclude clients.", chains: one(ecLeaf(elliptic.P521()))},
		{
			Name: "ed25519", Expect: May, Wrong: "An Ed25519 key.", Rule: "RFC 8410; public CAs do not issue them", Consequence: "Servers with such a certificate exclude clients.",
			chains: one(func(m *pki.Maker) *tls.Certificate { return m.ChainWith(m.Inter, m.Ed25519(), nil, m.Inter) }),
		},
	}
}

func rsaCA(m *pki.Maker) *pki.CA { return m.CAWith("RSA intermediate", m.Root, m.RSA(2048), nil) }

const otherSite = "Whoever has a certificate for any name of his own can pose as every other site."

// addressHost is where the lab is unless it listens elsewhere, and the endpoint without a name.
const addressHost = "127.0.0.1"

// addressName is that endpoint.
const addressName = "address"

// addresses has a certificate for the addresses that the endpoints' names lead to, and for no name.
func addresses(m *pki.Maker) *tls.Certificate {
	return m.Chain(func(t *x509.Certificate) { t.DNSNames, t.Subject.CommonName, t.IPAddresses = nil, "", m.Addresses() })
}

func names() []Endpoint {
	return []Endpoint{
		{Name: "wrong-host", Expect: MustRefuse, Wrong: "The certificate is for another host, www.example.com.", Rule: "RFC 9525 section 6.3, RFC 9110 section 4.3.4", Consequence: otherSite, chains: one(named("www.example.com"))},
		{Name: "wrong-subdomain", Expect: MustRefuse, Wrong: "The certificate is for the parent domain, lab.localhost, without a wildcard.", Rule: "RFC 9525 section 6.3", Consequence: otherSite, chains: one(named(Domain))},
		{
			Name: "common-name-only", Expect: ShouldRefuse, Wrong: "The host name stands in the subject's common name alone; there is no subjectAltName.", Rule: "RFC 9525 section 2: must not be used; RFC 9110 section 4.3.4",
			Consequence: "Names are read where CAs and their limits do not look.",
			chains:      one(leaf(func(t *x509.Certificate) { t.DNSNames = nil })),
		},
		{
			Name: "common-name-beside-san", Expect: MustRefuse, Wrong: "The host name stands in the common name; subjectAltName names another host.", Rule: "RFC 9525 section 2, RFC 2818 section 3.1", Consequence: otherSite,
			chains: one(leaf(func(t *x509.Certificate) { t.DNSNames = []string{"www.example.com"} })),
		},
		{Name: "wildcard", Expect: ShouldAccept, Wrong: "Nothing: the certificate is for *.lab.localhost.", Rule: "RFC 9525 section 6.3", Consequence: "The client fails at many sites.", chains: one(named("*." + Domain)), config: http1Only},
		{
			Name: "wildcard-too-deep", Host: "too.deep." + Domain, Expect: MustRefuse, Wrong: "The certificate is for *.lab.localhost, and the host has two labels below it: too.deep.lab.localhost.", Rule: "RFC 9525 section 6.3: a wildcard stands for one label", Consequence: otherSite,
			chains: one(named("*." + Domain)), config: http1Only,
		},
		{Name: "wildcard-parent", Host: "parent.wildcard." + Domain, Expect: MustRefuse, Wrong: "The certificate is for *.parent.wildcard.lab.localhost, and the host is its parent.", Rule: "RFC 9525 section 6.3", Consequence: otherSite, chains: one(named("*.parent.wildcard." + Domain))},
		{
			Name: "wildcard-partial", Expect: ShouldRefuse, Wrong: "The wildcard is a part of a label: wildcard-par*.lab.localhost.", Rule: "RFC 9525 section 6.3: the wildcard must be the whole left-most label; RFC 6125 allowed it", Consequence: "Certificates mean more names than their CA has checked.",
			chains: one(named("wildcard-par*." + Domain)),
		},
		{
			Name: "wildcard-inside", Host: "a.wildcard-inside." + Domain, Expect: MustRefuse, Wrong: "The wildcard is not the first label: a.*.lab.localhost.", Rule: "RFC 9525 section 6.3", Consequence: "Certificates mean more names than their CA has checked.",
			chains: one(named("a.*." + Domain)),
		},
		{
			Name: "wildcard-top-level", Host: "lab-wildcard.localhost", Expect: ShouldRefuse, Wrong: "The wildcard covers a whole top-level domain: *.localhost, as *.com would. This endpoint is lab-wildcard.localhost.", Rule: "RFC 9525 section 7.1, CA/B Baseline Requirements section 3.2.2.6", Consequence: "One misissued certificate is good for every site of a country.",
			chains: one(named("*.localhost")),
		},
		{Name: "wildcard-alone", Expect: MustRefuse, Wrong: "The name in the certificate is * alone.", Rule: "RFC 9525 section 6.3", Consequence: "One certificate is good for every site.", chains: one(named("*"))},
		{
			Name: "name-with-nul", Expect: MustRefuse, Wrong: "The name goes on behind a NUL byte: name-with-nul.lab.localhost, NUL, .example.com.", Rule: "RFC 5280 section 4.2.1.6; CVE-2009-2408", Consequence: "The owner of example.com gets a certificate that the client takes for any other site's.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				return m.Chain(func(t *x509.Certificate) { pki.Names(t, pki.TagDNS, m.Host+"\x00.example.com") })
			}),
		},
		{
			Name: "name-as-uri", Expect: MustRefuse, Wrong: "The host name stands in a URI of subjectAltName, and in no dNSName.", Rule: "RFC 9525 section 6.3", Consequence: "Certificates for other purposes pass for a server's.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				return m.Chain(func(t *x509.Certificate) { pki.Names(t, pki.TagURI, "https://"+m.Host+"/") })
			}),
		},
		{
			Name: "name-in-capitals", Expect: MustAccept, Wrong: "Nothing: the name in the certificate is in capitals.", Rule: "RFC 9525 section 6.3, RFC 5890: comparison without regard to case", Consequence: "The client fails at sites with such a certificate.",
			chains: one(named("NAME-IN-CAPITALS.LAB.LOCALHOST")),
		},
		{Name: "address-for-name", Expect: MustRefuse, Wrong: "The certificate is for the lab's address, such as 127.0.0.1, and the client asks for a name that leads there.", Rule: "RFC 9525 section 6.3", Consequence: "Whoever holds an address poses as every name that an attacker's DNS sends there.", chains: one(addresses)},
		{
			Name: addressName, Host: addressHost, Expect: MustAccept, Wrong: "Nothing: the URL has the lab's address, such as 127.0.0.1, and the certificate, too.", Rule: "RFC 9525 section 6.4, RFC 9110 section 4.3.4", Consequence: "The client fails at services without a name.",
			chains: one(addresses),
		},
		{Name: "idn", Host: "xn--bcher-kva." + Domain, Expect: MustAccept, Wrong: "Nothing: an internationalized name, bücher.lab.localhost, as its A-label.", Rule: "RFC 9525 section 6.3, RFC 5890", Consequence: "The client fails at sites with names in other letters."},
		{
			Name: "idn-wildcard", Host: "xn--caf-dma." + Domain, Expect: ShouldAccept, Wrong: "Nothing: an A-label that a wildcard stands for.", Rule: "RFC 9525 section 6.3", Consequence: "The client fails at sites with names in other letters.",
			chains: one(named("*." + Domain)), config: http1Only,
		},
		{Name: "no-subject", Expect: MustAccept, Wrong: "Nothing: the subject is empty, so subjectAltName is critical.", Rule: "RFC 5280 section 4.1.2.6", Consequence: "The client fails at certificates of public CAs, which leave the common name out.", chains: one(leaf(func(t *x509.Certificate) { t.Subject = pkix.Name{} }))},
		{
			Name: "no-names", Expect: MustRefuse, Wrong: "The certificate has no name at all.", Rule: "RFC 9525 section 6.6", Consequence: otherSite,
			chains: one(leaf(func(t *x509.Certificate) { t.DNSNames, t.Subject.CommonName = nil, "" })),
		},
	}
}

const everyCA = "Owners of ordinary certificates become CAs, and sign for every site."

func constraints() []Endpoint {
	return []Endpoint{
		{
			Name: "name-constraints", Expect: MustAccept, Wrong: "Nothing: the CA is limited to lab.localhost.", Rule: "RFC 5280 section 4.2.1.10", Consequence: "The client fails at the CAs of companies.",
			chains: one(below("CA for lab.localhost", func(t *x509.Certificate) {
				t.PermittedDNSDomains, t.PermittedDNSDomainsCritical = []string{Domain}, true
			})),
		},
		{
			Name: "name-constraints-violated", Expect: MustRefuse, Wrong: "The CA is limited to example.com, and signs for lab.localhost.", Rule: "RFC 5280 section 6.1.3 (b)", Consequence: "The CA of one company can sign for every site.", basis: "name-constraints",
			chains: one(below("CA for example.com", func(t *x509.Certificate) {
				t.PermittedDNSDomains, t.PermittedDNSDomainsCritical = []string{"example.com"}, true
			})),
		},
		{
			Name: "name-constraints-excluded", Expect: MustRefuse, Wrong: "The CA may not sign for lab.localhost, and does.", Rule: "RFC 5280 section 6.1.3 (c)", Consequence: "What a CA was forbidden to sign is good all the same.", basis: "name-constraints",
			chains: one(below("CA not for lab.localhost", func(t *x509.Certificate) {
				t.ExcludedDNSDomains, t.PermittedDNSDomainsCritical = []string{Domain}, true
			})),
		},
		{
			Name: "common-name-constrained", Expect: MustRefuse, Wrong: "The CA is limited to example.com, and writes lab.localhost's name into the common name, where its limit says nothing.", Rule: "RFC 9525 section 2, RFC 5280 section 4.2.1.10", Consequence: "The CA of one company can sign for every site.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				ca := m.CA("CA for example.com", m.Root, func(t *x509.Certificate) {
					t.PermittedDNSDomains, t.PermittedDNSDomainsCritical = []string{"example.com"}, true
				})
				return m.ChainWith(ca, m.Key(), func(t *x509.Certificate) { t.DNSNames = nil }, ca)
			}),
		},
		{
			Name: "leaf-as-ca", Expect: MustRefuse, Wrong: "An ordinary certificate, with cA false, has signed this one.", Rule: "RFC 5280 section 6.1.4 (k); CVE-2002-0862, CVE-2015-1793, CVE-2020-0601's class", Consequence: everyCA,
			chains: one(below("leaf that signs", func(t *x509.Certificate) {
				t.IsCA, t.KeyUsage, t.ExtKeyUsage, t.SubjectKeyId = false, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []byte{1, 2, 3, 4}
			})),
		},
		{
			Name: "ca-without-flag", Expect: MustRefuse, Wrong: "The intermediate has no basicConstraints at all, and keyCertSign.", Rule: "RFC 5280 section 6.1.4 (k)", Consequence: everyCA,
			chains: one(below("CA without basicConstraints", func(t *x509.Certificate) {
				t.BasicConstraintsValid, t.IsCA, t.SubjectKeyId = false, false, []byte{1, 2, 3, 5}
			})),
		},
		{
			Name: "ca-without-key-cert-sign", Expect: MustRefuse, Wrong: "The intermediate's keyUsage does not have keyCertSign.", Rule: "RFC 5280 section 6.1.4 (n)", Consequence: "Keys that were never meant to sign certificates do.",
			chains: one(below("CA without keyCertSign", func(t *x509.Certificate) { t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign })),
		},
		{
			Name: "path-length", Expect: MustRefuse, Wrong: "A CA with a path length of 0 has signed another CA.", Rule: "RFC 5280 section 6.1.4 (m)", Consequence: "A CA for leaves alone makes CAs.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				first := m.CA("CA with path length 0", m.Root, func(t *x509.Certificate) { t.MaxPathLen, t.MaxPathLenZero = 0, true })
				second := m.CA("CA below path length 0", first, nil)
				return m.ChainWith(second, m.Key(), nil, second, first)
			}),
		},
		{
			Name: "eku-client", Expect: MustRefuse, Wrong: "The leaf is for clients: extendedKeyUsage has clientAuth alone.", Rule: "RFC 5280 section 4.2.1.12", Consequence: "Every employee's certificate passes for a server's.",
			chains: one(leaf(func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })),
		},
		{
			Name: "eku-ca", Expect: ShouldRefuse, Wrong: "The intermediate is for clients: its extendedKeyUsage has clientAuth alone.", Rule: "CA/B Baseline Requirements section 7.1.2.10.6; RFC 5280 leaves it open", Consequence: "A CA for other purposes signs for servers.",
			chains: one(below("CA for clients", func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })),
		},
		{Name: "eku-none", Expect: ShouldAccept, Wrong: "Nothing: the leaf has no extendedKeyUsage, so it is for everything.", Rule: "RFC 5280 section 4.2.1.12", Consequence: "The client fails at certificates of simple CAs.", chains: one(leaf(func(t *x509.Certificate) { t.ExtKeyUsage = nil }))},
		{Name: "eku-any", Expect: May, Wrong: "The leaf's extendedKeyUsage is anyExtendedKeyUsage.", Rule: "RFC 5280 section 4.2.1.12: applications may require serverAuth", Consequence: "Certificates for everything are rare, and public CAs must not issue them.", chains: one(leaf(func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }))},
		{
			Name: "key-usage", Expect: ShouldRefuse, Wrong: "The leaf's keyUsage is keyAgreement alone: the key may not sign.", Rule: "RFC 8446 section 4.4.2.2, RFC 5280 section 4.2.1.3", Consequence: "Keys are used for what their CA has not allowed.",
			chains: one(leaf(func(t *x509.Certificate) { t.KeyUsage = x509.KeyUsageKeyAgreement })),
		},
		{
			Name: "critical-extension", Expect: MustRefuse, Wrong: "The leaf has a critical extension that nobody knows.", Rule: "RFC 5280 section 4.2: must reject", Consequence: "Limits that a CA writes into certificates mean nothing.", basis: "unknown-extension",
			chains: one(leaf(func(t *x509.Certificate) { pki.Extension(t, true, []byte{5, 0}, 1, 3, 6, 1, 4, 1, 55555, 1) })),
		},
		{
			Name: "critical-extension-ca", Expect: MustRefuse, Wrong: "The intermediate has a critical extension that nobody knows.", Rule: "RFC 5280 section 4.2 and 6.1.4 (o)", Consequence: "Limits that a CA writes into certificates mean nothing.",
			chains: one(below("CA with a critical extension", func(t *x509.Certificate) { pki.Extension(t, true, []byte{5, 0}, 1, 3, 6, 1, 4, 1, 55555, 1) })),
		},
		{
			Name: "unknown-extension", Expect: MustAccept, Wrong: "Nothing: an extension that nobody knows, not critical.", Rule: "RFC 5280 section 4.2", Consequence: "The client fails at certificates of CAs with extensions of their own.",
			chains: one(leaf(func(t *x509.Certificate) { pki.Extension(t, false, []byte{5, 0}, 1, 3, 6, 1, 4, 1, 55555, 2) })),
		},
	}
}

func sizes() []Endpoint {
	return []Endpoint{
		{Name: "names-1000", Expect: ShouldAccept, large: true, Wrong: "The certificate has 1,000 names, and 24 KB.", Rule: "none; CAs allow 100 to 1,000", Consequence: "The client fails at sites behind a large provider.", chains: one(leaf(func(t *x509.Certificate) { t.DNSNames = append(many(999), t.DNSNames...) }))},
		{Name: "names-10000", Expect: May, Wrong: "The certificate has 10,000 names, and 250 KB.", Rule: "none; OpenSSL's limit is 100 KiB, Go's 256 KiB", Consequence: "Clients without a limit can be made to use much memory.", chains: one(leaf(func(t *x509.Certificate) { t.DNSNames = append(many(9999), t.DNSNames...) }))},
		{
			Name: "chain-10", Expect: May, Wrong: "Ten CAs stand between leaf and root.", Rule: "none; clients limit the depth", Consequence: "Clients without a limit can be made to verify for long.",
			chains: one(func(m *pki.Maker) *tls.Certificate {
				ca := m.Root
				var sent []*pki.CA
				for i := range 10 {
					ca = m.CA(fmt.Sprintf("CA %d of 10", i+1), ca, nil)
					sent = append([]*pki.CA{ca}, sent...)
				}
				return m.ChainWith(ca, m.Key(), nil, sent...)
			}),
		},
		{
			Name: "chain-60k", Expect: ShouldAccept, large: true, Wrong: "The chain has 60 KiB: four records.", Rule: "RFC 8446 section 5.1: messages span records", Consequence: "The client fails at long chains.",
			chains: one(below("CA of 60 KiB", func(t *x509.Certificate) {
				pki.Extension(t, false, append([]byte{4, 0x82, 0xf0, 0x00}, make([]byte, 0xf000)...), 1, 3, 6, 1, 4, 1, 55555, 3)
			})),
		},
		{
			Name: "serial-1", Expect: May, Wrong: "The serial number is 1: no entropy.", Rule: "CA/B Baseline Requirements section 7.1: 64 random bits, for public CAs", Consequence: "With a weak hash, a guessed serial makes collisions possible.",
			chains: one(leaf(func(t *x509.Certificate) { t.SerialNumber = big.NewInt(1) })),
		},
	}
}

func many(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%05d.many."+Domain, i))
	}
	return names
}
