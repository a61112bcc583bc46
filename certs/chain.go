package certs

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1" // in certificates of old CAs, whose chains are to be put together and not believed
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxChain bounds how many certificates are sent with a leaf.
const maxChain = 10

// chain returns what is sent with a leaf: the leaf, and the certificates that lead up from it. Its own file counts:
// certificates of other files are used only where the file lacks an issuer, and only those that are valid. A root is
// left out, as clients have their own. A certificate of its own file that has the issuer's name is sent even if it
// cannot be verified that it is the issuer, which doubt is about: clients may know better, and tell better what is
// wrong with it.
func chain(leaf *x509.Certificate, own, others []*x509.Certificate, now time.Time) (out []*x509.Certificate, doubt error) {
	out = []*x509.Certificate{leaf}
	// Cross-signed CAs may lead in a circle.
	for len(out) < maxChain {
		last := out[len(out)-1]
		next := firstIssuer(last, own)
		if next == nil {
			next = bestIssuer(last, others, now)
		}

		if next == nil {
			if next = namedIssuer(last, own); next != nil && doubt == nil {
				doubt = unverified(next, last)
			}
		}

		// A root is left out: clients have it, and trust no copy that is sent.
		if next == nil || selfIssued(next) || slices.ContainsFunc(out, next.Equal) {
			break
		}

		out = append(out, next)
	}
	return out, doubt
}

// namedIssuer is the first in a file that has the name of the issuer, whether it is the issuer or not. Of a
// certificate that has signed itself there is none.
func namedIssuer(child *x509.Certificate, own []*x509.Certificate) (found *x509.Certificate) {
	if selfIssued(child) {
		return nil
	}
	for _, c := range own {
		if (found == nil || selfIssued(found) && !selfIssued(c)) && !c.Equal(child) && sameName(c.RawSubject, child.RawIssuer) {
			found = c
		}
	}
	return found
}

// unverified says why a certificate with the issuer's name does not prove to be the issuer.
func unverified(parent, child *x509.Certificate) error {
	who := func(c *x509.Certificate) string {
		return strconv.Quote(cmp.Or(c.Subject.CommonName, c.Subject.String()))
	}
	switch err := child.CheckSignatureFrom(parent); {
	case !parent.IsCA:
		return fmt.Errorf("%s is no certificate of a CA, and stands as the issuer of %s", who(parent), who(child))
	case err != nil:
		return fmt.Errorf("%s has the name of the issuer of %s, and has not signed it: %w", who(parent), who(child), err)
	}
	return fmt.Errorf("%s has the name of the issuer of %s, and another key identifier", who(parent), who(child))
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// firstIssuer is the first in a file. One that another CA has signed goes before a root of the same key: whoever put
// both there has clients that know the other CA alone.
func firstIssuer(child *x509.Certificate, own []*x509.Certificate) (found *x509.Certificate) {
	for _, c := range own {
		if (found == nil || selfIssued(found) && !selfIssued(c)) && issues(c, child) {
			found = c
		}
	}
	return found
}

// bestIssuer is a valid one: with the name exactly as the child has it if there is one, and then the one that is
// valid for longest.
func bestIssuer(child *x509.Certificate, others []*x509.Certificate, now time.Time) (best *x509.Certificate) {
	exact := func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, child.RawIssuer) }
	for _, c := range others {
		switch {
		case !validAt(c, now) || !issues(c, child):
		// Some clients compare names byte by byte, so the exact name is the safer choice.
		case best == nil, exact(c) && !exact(best), exact(c) == exact(best) && c.NotAfter.After(best.NotAfter):
			best = c
		}
	}
	return best
}

func validAt(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

// issues reports whether a CA has signed a certificate. Key identifiers tell CAs of the same name apart (RFC 5280
// section 4.2.1.1).
func issues(parent, child *x509.Certificate) bool {
	identified := len(parent.SubjectKeyId) > 0 && len(child.AuthorityKeyId) > 0
	if !parent.IsCA || parent.Equal(child) || identified && !bytes.Equal(parent.SubjectKeyId, child.AuthorityKeyId) ||
		!sameName(parent.RawSubject, child.RawIssuer) {
		return false
	}

	err := child.CheckSignatureFrom(parent)
	switch {
	// Old chains have such signatures on certificates that clients do not verify. They still have to be sent.
	case errors.As(err, new(x509.InsecureAlgorithmError)):
		return signedWithSHA1(parent, child)
	case errors.Is(err, x509.ErrUnsupportedAlgorithm):
		// The client judges the signature. The key identifiers only say that the two belong together.
		return identified
	}

	return err == nil
}

// signedWithSHA1 verifies what crypto/x509 does not verify any more. It decides which certificates are sent, and
// nothing else.
func signedWithSHA1(parent, child *x509.Certificate) bool {
	hash := sha1.Sum(child.RawTBSCertificate)
	switch key := parent.PublicKey.(type) {
	case *rsa.PublicKey:
		return child.SignatureAlgorithm == x509.SHA1WithRSA && rsa.VerifyPKCS1v15(key, crypto.SHA1, hash[:], child.Signature) == nil
	case *ecdsa.PublicKey:
		return child.SignatureAlgorithm == x509.ECDSAWithSHA1 && ecdsa.VerifyASN1(key, hash[:], child.Signature)
	}
	return false
}

// sameName compares names as RFC 5280 section 7.1 does: the type of a string, its case and repeated spaces do not
// matter.
func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y pkix.RDNSequence
	for raw, name := range map[*[]byte]*pkix.RDNSequence{&a: &x, &b: &y} {
		if rest, err := asn1.Unmarshal(*raw, name); err != nil || len(rest) > 0 {
			return false
		}
	}
	return slices.EqualFunc(x, y, func(x, y pkix.RelativeDistinguishedNameSET) bool { return slices.EqualFunc(x, y, sameAttribute) })
}

func sameAttribute(x, y pkix.AttributeTypeAndValue) bool {
	a, isText := x.Value.(string)
	b, isTextToo := y.Value.(string)
	return x.Type.Equal(y.Type) && isText && isTextToo && strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}
