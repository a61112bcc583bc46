package sites

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"padlock/config"
	"padlock/internal/lastgood"
	"padlock/internal/pemfile"
	"padlock/internal/regular"
	"padlock/internal/revocation"
	"padlock/proxy/message"
)

// ClientAuth asks clients for a certificate, judges it, and tells targets of it. It never changes.
type ClientAuth struct {
	mode    string
	roots   *x509.CertPool // nil: none are known, only with request
	lists   revocation.Lists
	ca      string       // the file of roots
	missing error        // lists that it would need
	allow   *clientNames // nil: all that verify
	forward bool
}

// newClientAuth takes the files from those that were read. The key is the same where their contents and all else are.
func newClientAuth(c *config.ClientAuth, files *lastgood.Values) (a *ClientAuth, key string, err error) {
	a = &ClientAuth{mode: c.Mode, allow: newClientNames(c.Allow), forward: c.Forward}
	digest := sha256.New()
	var cas []*x509.Certificate
	if c.CA != "" {
		cas, err = lastgood.Get(files, c.CA, "CAs", func() ([]*x509.Certificate, error) {
			data, err := regular.Named(c.CA, pemfile.MaxFile)
			if err != nil {
				return nil, err
			}
			return pemfile.Certificates(c.CA, data)
		})
		if err != nil {
			return nil, "", err
		}
		a.roots = x509.NewCertPool()
		for _, ca := range cas {
			a.roots.AddCert(ca)
			// By content and not by name: a file that was written anew with other CAs is another policy.
			digest.Write(ca.Raw)
		}
	}

	for _, name := range c.CRL {
		lists, err := lastgood.Get(files, name, "revocation lists of "+c.CA, func() (revocation.Lists, error) {
			return revocation.Read(name, cas, time.Now())
		})
		if err != nil {
			return nil, "", err
		}

		for _, list := range lists {
			digest.Write(list.Raw())
		}
		a.lists = append(a.lists, lists...)
	}

	// A start refuses this. Later it holds up nothing: clients of a CA without a list are refused one by one.
	if a.ca = c.CA; a.lists != nil {
		a.missing = a.lists.Complete(cas, time.Now())
	}

	return a, fmt.Sprintf(" %s %v %q %x", c.Mode, c.Forward, fmt.Sprint(c.Allow), digest.Sum(nil)), nil
}

// apply makes a policy ask. It issues and accepts no session tickets: one from elsewhere, or from before a CA changed,
// must not stand in for the certificate.
func (a *ClientAuth) apply(policy *tls.Config) {
	policy.SessionTicketsDisabled = true
	policy.ClientCAs = a.roots
	switch a.mode {
	case "require":
		policy.ClientAuth = tls.RequireAndVerifyClientCert
	case "optional-verify":
		policy.ClientAuth = tls.VerifyClientCertIfGiven
	default:
		// A certificate that is given is judged after the handshake, where the response can say what is wrong.
		policy.ClientAuth = tls.RequestClientCert
		return
	}

	policy.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return nil
		}
		if _, err := a.judge(state.VerifiedChains); err != nil {
			return fmt.Errorf("failed to verify certificate: %w", err)
		}
		return nil
	}
}

var errNotAllowed = errors.New("not among those that this site allows")

// judge looks at what crypto/tls does not: revocation, and who is meant. What it finds holds until a time.
func (a *ClientAuth) judge(chains [][]*x509.Certificate) (until time.Time, err error) {
	if len(chains) == 0 {
		return until, errNotAllowed
	}
	if a.allow != nil && !a.allow.match(chains[0][0]) {
		return until, errNotAllowed
	}

	// One chain that stands is enough, as in crypto/x509: a CA with two certificates makes two chains.
	for _, chain := range chains {
		holds, failed := a.lists.Check(chain, time.Now())
		if failed != nil {
			err = failed
		} else if holds.After(until) {
			until = holds
		}
	}

	if !until.IsZero() {
		err = nil
	}
	return until, err
}

func alternativeNames(c *x509.Certificate) []string {
	names := slices.Concat(c.DNSNames, c.EmailAddresses)
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// Identity is what targets are told, in fields that no client can forge, and until when that is so; zero: for good. It
// is made once for a connection.
func (a *ClientAuth) Identity(state *tls.ConnectionState) (fields message.Fields, until time.Time) {
	if len(state.PeerCertificates) == 0 {
		return message.Fields{{Name: "X-SSL-Client-Verify", Value: "NONE"}}, until
	}

	c := state.PeerCertificates[0]
	verdict := "SUCCESS"
	var err error
	// The handshake of this mode verifies nothing.
	if a.mode == "request" {
		until, err = a.verify(state.PeerCertificates)
	} else {
		until, err = a.judge(state.VerifiedChains)
	}

	if err != nil {
		verdict = "FAILED:" + err.Error()
	}

	print := sha256.Sum256(c.Raw)
	fields = message.Fields{
		{Name: "X-SSL-Client-Verify", Value: Printable(verdict)},
		{Name: "X-SSL-Client-Subject", Value: Printable(c.Subject.String())},
		{Name: "X-SSL-Client-Issuer", Value: Printable(c.Issuer.String())},
		{Name: "X-SSL-Client-Serial", Value: c.SerialNumber.Text(16)},
		{Name: "X-SSL-Client-SHA256", Value: hex.EncodeToString(print[:])},
	}
	if names := alternativeNames(c); len(names) > 0 {
		fields.Add("X-SSL-Client-SAN", Printable(strings.Join(names, ", ")))
	}
	if a.forward {
		fields.Add("Client-Cert", ":"+base64.StdEncoding.EncodeToString(c.Raw)+":")
	}

	return fields, until
}

// verify judges a certificate that the handshake has not, or under another policy.
func (a *ClientAuth) verify(given []*x509.Certificate) (until time.Time, err error) {
	// Without Roots, crypto/x509 would trust the CAs of the system.
	o := x509.VerifyOptions{
		Roots: cmp.Or(a.roots, noRoots), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range given[1:] {
		o.Intermediates.AddCert(c)
	}
	chains, err := given[0].Verify(o)
	if err != nil {
		return until, err
	}
	return a.judge(chains)
}

var noRoots = x509.NewCertPool()

// Printable keeps what is not a client's to choose freely out of fields: a field's value holds no control characters.
func Printable(s string) string {
	if message.FieldValue(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
