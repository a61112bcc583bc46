// Package revocation judges certificates by the lists of their CAs (RFC 5280 section 5).
//
//	lists, err := revocation.Read("revoked.crl", cas, time.Now())
//	err = lists.Check(chain, time.Now())
package revocation

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"padlock/internal/pemfile"
)

// List is the revocation list of one CA. It never changes.
type List struct {
	File   string
	Issuer string    // as people read it
	Next   time.Time // when it expires; zero: never

	issuer  []byte // the name, in DER
	signers []*x509.Certificate
	revoked map[string]struct{} // serial numbers, as big-endian bytes
	raw     []byte
}

// Lists are those of several files and CAs.
type Lists []*List

// Read reads a file of lists, in PEM or DER. Each must be signed by one of the CAs, and still be good at the time now: a list that cannot
// be used is an error, as ignoring it would let in whom it revokes.
func Read(file string, cas []*x509.Certificate, now time.Time) (Lists, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	parsed, err := pemfile.RevocationLists(file, data)
	if err != nil {
		return nil, err
	}

	var all Lists
	for _, p := range parsed {
		fail := func(format string, args ...any) (Lists, error) {
			return nil, &pemfile.Error{File: file, Line: p.Line, Reason: fmt.Sprintf(format, args...)}
		}
		list := &List{
			File: file, Issuer: p.Issuer.String(), Next: p.NextUpdate, issuer: p.RawIssuer, revoked: map[string]struct{}{}, raw: p.Raw,
		}
		var refusal error
		for _, ca := range cas {
			if !bytes.Equal(ca.RawSubject, p.RawIssuer) {
				continue
			}
			if err := p.CheckSignatureFrom(ca); err != nil {
				refusal = err
				continue
			}
			list.signers = append(list.signers, ca)
		}
		switch {
		case len(list.signers) == 0 && refusal != nil:
			return fail("the revocation list of %q is not signed by the CA of that name among the accepted CAs: %v", list.Issuer, refusal)
		case len(list.signers) == 0:
			return fail("the revocation list of %q is of none of the accepted CAs, which are: %s", list.Issuer, subjects(cas))
		case list.Expired(now):
			return fail("the revocation list of %q has expired at %s: get the CA's current one", list.Issuer, list.Next.UTC().Format(time.RFC3339))
		}
		for _, entry := range p.RevokedCertificateEntries {
			list.revoked[string(entry.SerialNumber.Bytes())] = struct{}{}
		}
		all = append(all, list)
	}
	return all, nil
}

// subjects names CAs, the first of many.
func subjects(cas []*x509.Certificate) string {
	const most = 10
	var names []string
	for _, ca := range cas[:min(len(cas), most)] {
		names = append(names, fmt.Sprintf("%q", ca.Subject))
	}
	if more := len(cas) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// Expired reports whether the CA should have issued another list before now.
func (l *List) Expired(now time.Time) bool { return !l.Next.IsZero() && now.After(l.Next) }

// ErrRevoked is what Check returns for a certificate that stands in a list.
var ErrRevoked = errors.New("revoked by its CA")

// Check looks up every certificate of a verified chain, its leaf first, in the lists of its issuer; without a list of the issuer nothing is
// known against it. The chain's last certificate counts too, unless it is a root: an intermediate that is trusted by itself can be revoked.
// A list that has expired is an error, as it does not show what was revoked since.
func (all Lists) Check(chain []*x509.Certificate, now time.Time) error {
	for i, certificate := range chain {
		var issuer *x509.Certificate // nil: not in the chain
		if i+1 < len(chain) {
			issuer = chain[i+1]
		} else if bytes.Equal(certificate.RawSubject, certificate.RawIssuer) {
			break
		}
		for _, list := range all {
			if !list.covers(certificate, issuer) {
				continue
			}
			if list.Expired(now) {
				return fmt.Errorf("the revocation list of %s has expired", list.Issuer)
			}
			if _, revoked := list.revoked[string(certificate.SerialNumber.Bytes())]; revoked {
				return ErrRevoked
			}
		}
	}
	return nil
}

// covers reports whether the certificate was issued by the list's CA: by name and key, as another CA may have the same name.
func (l *List) covers(certificate, issuer *x509.Certificate) bool {
	if !bytes.Equal(l.issuer, certificate.RawIssuer) {
		return false
	}
	for _, signer := range l.signers {
		if issuer != nil && bytes.Equal(signer.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) ||
			issuer == nil && certificate.CheckSignatureFrom(signer) == nil {
			return true
		}
	}
	return false
}

// Raw is the list in DER.
func (l *List) Raw() []byte { return l.raw }
