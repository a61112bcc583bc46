// Package revocation judges certificates by the lists of their CAs (RFC 5280 section 5).
//
//	lists, err := revocation.Read("revoked.crl", cas, time.Now())
//	err = lists.Complete(cas, time.Now())
//	until, err := lists.Check(chain, time.Now())
package revocation

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"padlock/internal/pemfile"
	"padlock/internal/regular"
)

// List is the revocation list of one CA. It never changes.
type List struct {
	File   string
	Issuer string    // as people read it
	Next   time.Time // when it expires; zero: never

	issuer  []byte // the name, in DER
	signers []*x509.Certificate
	scope   pemfile.Scope
	revoked map[string]struct{} // serial numbers, as big-endian bytes
	raw     []byte
}

// Lists are those of several files and CAs.
type Lists []*List

// maxList bounds a file of lists: those of large public CAs have tens of MiB.
const maxList = 256 << 20

// Read reads a file of lists, in PEM or DER. Each must be signed by one of the CAs, and still be good at the time
// now: a list that cannot be used is an error, as ignoring it would let in whom it revokes.
func Read(file string, cas []*x509.Certificate, now time.Time) (Lists, error) {
	data, err := regular.Named(file, maxList)
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
			scope: p.Scope,
		}

		var refusal error
		for _, ca := range cas {
			// Several CAs may have one name, as after a change of keys. Any of them may have signed the list.
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
			return fail("the revocation list of %q is of none of the accepted CAs, which are: %s; if it is of an intermediate below one of them, add that to client_auth.ca", list.Issuer, subjects(cas))
		case list.Expired(now):
			return fail("the revocation list of %q has expired at %s: get the CA's current one", list.Issuer, list.Next.UTC().Format(time.RFC3339))
		case p.ThisUpdate.After(now.Add(skew)):
			return fail("the revocation list of %q begins at %s, which is to come: get the CA's current one, and look at this machine's clock",
				list.Issuer, p.ThisUpdate.UTC().Format(time.RFC3339))
		}

		for _, entry := range p.RevokedCertificateEntries {
			list.revoked[string(entry.SerialNumber.Bytes())] = struct{}{}
		}

		all = append(all, list)
	}

	return all, nil
}

// skew is how far the clock of a CA may be ahead.
const skew = 5 * time.Minute

// Complete reports, as an error, the CAs without a list: of whose certificates nothing is known. A CA with the name
// of another and a key of its own needs its own list, as after a change of keys. Without any list all may be missing.
func (all Lists) Complete(cas []*x509.Certificate, now time.Time) error {
	if len(all) == 0 {
		return nil
	}

	var missing []*x509.Certificate
	for _, ca := range cas {
		listed := slices.ContainsFunc(all, func(l *List) bool { return bytes.Equal(l.issuer, ca.RawSubject) && l.signedBy(ca) })
		// A CA that cannot issue certificates, or has expired, needs no list.
		if !listed && issues(ca) && !now.After(ca.NotAfter) {
			missing = append(missing, ca)
		}
	}

	if len(missing) == 0 {
		return nil
	}

	reason := ""
	for _, ca := range missing {
		if slices.ContainsFunc(all, func(l *List) bool { return bytes.Equal(l.issuer, ca.RawSubject) }) {
			reason = fmt.Sprintf("; the list of %q is made with another key than the one of the CA with serial number %x", ca.Subject, ca.SerialNumber)
			break
		}
	}

	return fmt.Errorf("no revocation list is of %s, so none of its revoked certificates would be refused%s: "+
		"add the list that it issues, which may be empty, or take the CA out of the bundle", subjects(missing), reason)
}

// issues reports whether certificates may be signed by c.
func issues(c *x509.Certificate) bool {
	// Versions 1 and 2 of X.509 have no basic constraints.
	if c.Version < 3 {
		return true
	}
	return c.BasicConstraintsValid && c.IsCA && (c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0)
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

// Check looks up every certificate of a verified chain, its leaf first, in the lists of its issuer, and returns until
// when that holds, as long as the lists stay: the first end of a certificate or a list. A certificate of which no
// list tells is an error, as is a list that has expired: what was revoked is not known. The chain's last certificate
// is trusted by itself; where it is no root and there is a list of its issuer, it counts too. Without any list
// nothing is looked up.
func (all Lists) Check(chain []*x509.Certificate, now time.Time) (until time.Time, err error) {
	for i, certificate := range chain {
		if until.IsZero() || certificate.NotAfter.Before(until) {
			// The chain is good until its first end, after which the connection has to be judged again.
			until = certificate.NotAfter
		}

		var issuer *x509.Certificate // nil: not in the chain
		if i+1 < len(chain) {
			issuer = chain[i+1]
		} else if bytes.Equal(certificate.RawSubject, certificate.RawIssuer) {
			continue
		}

		known := len(all) == 0 || issuer == nil
		for _, list := range all {
			if !list.covers(certificate, issuer) {
				continue
			}
			if list.Expired(now) {
				return time.Time{}, fmt.Errorf("the revocation list of %s has expired", list.Issuer)
			}

			// Whatever another list says: one that revokes is enough.
			if _, revoked := list.revoked[string(certificate.SerialNumber.Bytes())]; revoked {
				return time.Time{}, ErrRevoked
			}
			if !list.Next.IsZero() && list.Next.Before(until) {
				until = list.Next
			}
			known = true
		}

		if !known {
			return time.Time{}, fmt.Errorf("no revocation list of %s has certificates such as %s", certificate.Issuer, certificate.Subject)
		}
	}
	return until, nil
}

// covers reports whether the certificate was issued by the list's CA, by name and key, as another CA may have the
// same name; and is of those that the list is about.
func (l *List) covers(certificate, issuer *x509.Certificate) bool {
	if !bytes.Equal(l.issuer, certificate.RawIssuer) || !l.scope.Covers(certificate) {
		return false
	}
	if issuer != nil {
		return l.signedBy(issuer)
	}
	return slices.ContainsFunc(l.signers, func(signer *x509.Certificate) bool { return certificate.CheckSignatureFrom(signer) == nil })
}

// signedBy reports whether the list was signed with the CA's key.
func (l *List) signedBy(ca *x509.Certificate) bool {
	return slices.ContainsFunc(l.signers, func(signer *x509.Certificate) bool {
		return bytes.Equal(signer.RawSubjectPublicKeyInfo, ca.RawSubjectPublicKeyInfo)
	})
}

// Raw is the list in DER.
func (l *List) Raw() []byte { return l.raw }
