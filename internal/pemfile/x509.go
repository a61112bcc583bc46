package pemfile

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"padlock/internal/regular"
)

// Certificates returns the certificates of a file, at least one, in their order. Private keys and parameters of keys
// may stand beside them; anything else is an error.
func Certificates(name string, data []byte) ([]*x509.Certificate, error) {
	blocks, err := Parse(name, data)
	if err != nil {
		return nil, err
	}

	var all []*x509.Certificate
	for _, b := range blocks {
		switch {
		case b.Type == "CERTIFICATE":
			certificate, err := b.Certificate(name)
			if err != nil {
				return nil, err
			}
			all = append(all, certificate)
		case !b.IsKey() && !b.IsParameters():
			return nil, b.Misplaced(name, "certificates")
		}
	}

	if len(all) == 0 {
		return nil, &Error{File: name, Reason: "holds no certificate in PEM"}
	}

	return all, nil
}

// Pool returns a pool of the certificates of a file, at least one.
func Pool(name string, data []byte) (*x509.CertPool, error) {
	certificates, err := Certificates(name, data)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return pool, nil
}

// LoadPool is Pool for a file that is read.
func LoadPool(name string) (*x509.CertPool, error) {
	data, err := regular.Named(name, MaxFile)
	if err != nil {
		return nil, err
	}
	return Pool(name, data)
}

// RevocationList is a list of revoked certificates (RFC 5280 section 5), and where it stands.
type RevocationList struct {
	*x509.RevocationList
	Line  int // in the file; 0: the file is the list, in DER
	Scope Scope
}

// Scope is what a list is about: of its CA's certificates not all, where its issuing distribution point says so (RFC
// 5280 section 5.2.5).
type Scope struct {
	UsersOnly bool // certificates of CAs are in another list
	CAsOnly   bool // all others are
	// URIs: certificates that name none of them as their distribution point are in other lists; nil: all are in this
	// one.
	Points []string
}

// Covers reports whether the list would have the certificate in it, if that is one of its CA's and were revoked.
func (s *Scope) Covers(c *x509.Certificate) bool {
	if ca := c.BasicConstraintsValid && c.IsCA; ca && s.UsersOnly || !ca && s.CAsOnly {
		return false
	}
	return s.Points == nil || slices.ContainsFunc(c.CRLDistributionPoints, func(uri string) bool { return slices.Contains(s.Points, uri) })
}

// RevocationLists returns the lists of a file, at least one: in PEM, or one in DER.
func RevocationLists(name string, data []byte) ([]RevocationList, error) {
	if isDER(data) {
		list, scope, err := parseList(data)
		if err != nil {
			return nil, &Error{File: name, Reason: "is no revocation list in PEM or DER", Err: err}
		}
		return []RevocationList{{RevocationList: list, Scope: scope}}, nil
	}

	blocks, err := Parse(name, data)
	if err != nil {
		return nil, err
	}

	var all []RevocationList
	for _, b := range blocks {
		if b.Type != "X509 CRL" {
			return nil, b.Misplaced(name, "revocation lists")
		}
		list, scope, err := parseList(b.Bytes)
		if err != nil {
			return nil, b.damaged(name, err)
		}
		all = append(all, RevocationList{list, b.Line, scope})
	}

	if len(all) == 0 {
		return nil, &Error{File: name, Reason: "holds no revocation list in PEM or DER"}
	}

	return all, nil
}

// isDER reports whether data begins with a SEQUENCE of 128 bytes or more, as no text does.
func isDER(data []byte) bool { return len(data) > 1 && data[0] == 0x30 && data[1] >= 0x80 }

// Extensions of revocation lists (RFC 5280 section 5.2).
var (
	deltaIndicator    = asn1.ObjectIdentifier{2, 5, 29, 27}
	distributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// parseList refuses lists that mean something else than that their entries are revoked by their issuer.
func parseList(der []byte) (list *x509.RevocationList, scope Scope, err error) {
	list, err = x509.ParseRevocationList(der)
	if err != nil {
		return nil, scope, err
	}
	// A second list behind the first would be passed over, with those whom it revokes.
	if len(list.Raw) != len(der) {
		return nil, scope, fmt.Errorf("%d bytes follow it", len(der)-len(list.Raw))
	}

	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(deltaIndicator):
			err = errors.New("it is a delta list (RFC 5280 section 5.2.4), which lacks what its base has: use the complete list")
		case e.Id.Equal(distributionPoint):
			scope, err = parseScope(e.Value)
		// RFC 5280 section 5.2: a list with an unknown critical extension must not be used to judge a certificate.
		case e.Critical:
			err = fmt.Errorf("it has the critical extension %v, which padlock does not know", e.Id)
		}
		if err != nil {
			return nil, scope, err
		}
	}

	return list, scope, nil
}

// parseScope reads an issuing distribution point (RFC 5280 section 5.2.5), and refuses one that leaves open who is
// not revoked.
func parseScope(der []byte) (scope Scope, err error) {
	var point struct {
		Name           asn1.RawValue  `asn1:"optional,tag:0"`
		Users          bool           `asn1:"optional,tag:1"`
		CAs            bool           `asn1:"optional,tag:2"`
		Reasons        asn1.BitString `asn1:"optional,tag:3"`
		Indirect       bool           `asn1:"optional,tag:4"`
		AttributeCerts bool           `asn1:"optional,tag:5"`
	}

	if rest, err := asn1.Unmarshal(der, &point); err != nil || len(rest) > 0 {
		return scope, errors.New("its issuing distribution point is malformed")
	}

	switch {
	case point.Indirect:
		return scope, errors.New("it is an indirect list (RFC 5280 section 5.2.5), with certificates of other CAs: use each CA's own")
	case point.AttributeCerts:
		return scope, errors.New("it has attribute certificates alone (onlyContainsAttributeCerts), which no client shows: use the CA's complete list")
	case len(point.Reasons.Bytes) > 0:
		return scope, errors.New("it has certificates that are revoked for some reasons alone (onlySomeReasons): use the CA's complete list")
	case point.Users && point.CAs:
		return scope, errors.New("its issuing distribution point contradicts itself: no certificate would be in it")
	}

	scope = Scope{UsersOnly: point.Users, CAsOnly: point.CAs}
	if len(point.Name.FullBytes) > 0 {
		scope.Points, err = uris(point.Name.Bytes)
	}

	return scope, err
}

// uris are those of a DistributionPointName (RFC 5280 section 4.2.1.13), at least one.
func uris(name []byte) (all []string, err error) {
	var full asn1.RawValue
	if rest, err := asn1.Unmarshal(name, &full); err != nil || len(rest) > 0 || full.Class != asn1.ClassContextSpecific {
		return nil, errors.New("the name of its issuing distribution point is malformed")
	}

	for rest := full.Bytes; full.Tag == 0 && len(rest) > 0; {
		var general asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &general); err != nil {
			return nil, errors.New("the name of its issuing distribution point is malformed")
		}
		if general.Class == asn1.ClassContextSpecific && general.Tag == 6 {
			all = append(all, string(general.Bytes))
		}
	}

	if len(all) == 0 {
		return nil, errors.New("its issuing distribution point has no URI, so whose certificates it has cannot be told: use the CA's complete list")
	}
	return all, nil
}

// Pair makes a certificate with its key out of two texts, which may be the same. The first certificate is the leaf;
// what follows it is its chain.
func Pair(certName string, certificate []byte, keyName string, key []byte) (tls.Certificate, error) {
	chain, err := Certificates(certName, certificate)
	if err != nil {
		return tls.Certificate{}, err
	}

	signer, err := Key(keyName, key)
	if err != nil {
		return tls.Certificate{}, err
	}

	pair := tls.Certificate{PrivateKey: signer, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}

	// Without this check, the first handshake would be where the mistake shows.
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(chain[0].PublicKey) {
		reason := "private key does not match public key: the certificate is made for another key"
		if keyName != certName {
			reason += " than the one in " + keyName
		}
		return tls.Certificate{}, &Error{File: certName, Reason: reason}
	}

	return pair, nil
}

// Key returns the private key of a text, which has one alone. Certificates and parameters may stand beside it.
func Key(name string, data []byte) (key crypto.Signer, err error) {
	blocks, err := Parse(name, data)
	if err != nil {
		return nil, err
	}

	for _, b := range blocks {
		switch {
		case b.IsKey() && key == nil:
			if key, err = b.PrivateKey(name); err != nil {
				return nil, err
			}
		case b.IsKey():
			return nil, &Error{File: name, Line: b.Line, Reason: "a second private key begins here: one is expected"}
		case b.Type != "CERTIFICATE" && !b.IsParameters():
			return nil, b.Misplaced(name, "a private key")
		}
	}

	if key == nil {
		return nil, &Error{File: name, Reason: "holds no private key in PEM"}
	}
	return key, nil
}

// LoadPair is Pair for two files that are read.
func LoadPair(certName, keyName string) (tls.Certificate, error) {
	certificate, err := regular.Named(certName, MaxFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := regular.Named(keyName, MaxFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return Pair(certName, certificate, keyName, key)
}

// IsKey reports whether the block is a private key of any kind.
func (b *Block) IsKey() bool {
	return b.Type == "PRIVATE KEY" || strings.HasSuffix(b.Type, " PRIVATE KEY")
}

// IsParameters reports whether the block holds parameters that OpenSSL writes beside keys, and that decide nothing.
func (b *Block) IsParameters() bool {
	return slices.Contains([]string{"EC PARAMETERS", "DH PARAMETERS", "X9.42 DH PARAMETERS"}, b.Type)
}

// Certificate parses the block as a certificate. name is what errors call the file.
func (b *Block) Certificate(name string) (*x509.Certificate, error) {
	certificate, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, b.damaged(name, err)
	}
	return certificate, nil
}

// Request parses the block as a request for a certificate.
func (b *Block) Request(name string) (*x509.CertificateRequest, error) {
	request, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		return nil, b.damaged(name, err)
	}
	return request, nil
}

// PrivateKey parses the block as a private key that is not encrypted: PKCS#8, SEC 1 or PKCS#1.
func (b *Block) PrivateKey(name string) (crypto.Signer, error) {
	fail := func(reason string) (crypto.Signer, error) {
		return nil, &Error{File: name, Line: b.Line, Reason: reason}
	}

	if b.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED") {
		return fail("the private key is encrypted with a password: openssl pkey -in FILE -out PLAIN takes it off, or use pkcs12 with password")
	}

	// By content and not by label, as in crypto/tls: the versions of OpenSSL write different forms.
	if key, err := x509.ParsePKCS8PrivateKey(b.Bytes); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}

	if key, err := x509.ParseECPrivateKey(b.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(b.Bytes); err == nil {
		return key, nil
	}

	return fail("the private key is damaged, or of a kind that TLS does not use")
}

// Misplaced is the error for a block that does not belong into a file of what is wanted.
func (b *Block) Misplaced(name, wanted string) error {
	reason := fmt.Sprintf("a block %q begins here, where %s are expected", b.Type, wanted)
	if strings.HasPrefix(wanted, "a ") {
		reason = fmt.Sprintf("a block %q begins here, where %s is expected", b.Type, wanted)
	}

	switch b.Type {
	case "TRUSTED CERTIFICATE":
		reason += ": openssl x509 -in FILE -out PLAIN takes OpenSSL's own additions off"
	case "PKCS7":
		reason += ": openssl pkcs7 -print_certs -in FILE -out PLAIN takes them out"
	case "X509 CRL":
		reason += ": revocation lists have a key of their own, crl"
	}

	return &Error{File: name, Line: b.Line, Reason: reason}
}

func (b *Block) damaged(name string, err error) error {
	// crypto/x509 has no errors of its own for them.
	for _, curve := range [...]string{"invalid ECDSA parameters", "unsupported elliptic curve"} {
		if strings.HasSuffix(err.Error(), curve) {
			return &Error{File: name, Line: b.Line, Err: err, Reason: "the " + b.Type + " that begins here has a key of a curve that TLS does not use, or whose parameters are " +
				"written out: make one with openssl ecparam -genkey -name prime256v1"}
		}
	}
	return &Error{File: name, Line: b.Line, Reason: "the " + b.Type + " that begins here is damaged", Err: err}
}
