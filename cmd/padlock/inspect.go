package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"padlock/certs"
	"padlock/certs/acme"
	"padlock/config"
	"padlock/handshake"
	"padlock/handshake/probe"
	"padlock/internal/hint"
	"padlock/internal/pemfile"
	"padlock/internal/regular"
)

func (p *program) inspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "show a certificate and its chain, and check what a browser would check",
		UsageText: "padlock certs inspect FILE|NAME|HOST[:PORT]\n\nFILE is PEM, DER, PKCS#12 or a signing request. NAME is the name of a certificate in the storage. HOST:PORT is a server to connect to.\nThe exit code is 0 if a browser would accept the certificate, 1 if not.\n\nExamples:\n  padlock certs inspect app.example.com\n  padlock certs inspect server.pem --ca root.pem", OnUsageError: onUsageError,
		Flags: append(storeFlags(), jsonFlag(),
			&cli.StringFlag{Name: "ca", Usage: "PEM `FILE` with the CAs to trust, instead of the system's", EnvVars: []string{"PADLOCK_CA"}},
			&cli.StringFlag{Name: "name", Usage: "`NAME` that a browser would request", EnvVars: []string{"PADLOCK_NAME"}},
			&cli.StringFlag{Name: "password", Usage: "`PASSWORD` of the PKCS#12 file, or file:PATH", EnvVars: []string{"PADLOCK_PASSWORD"}},
			&cli.DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "timeout of the connection", EnvVars: []string{"PADLOCK_TIMEOUT"}},
		),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError{errors.New("inspect needs one FILE, NAME or HOST:PORT")}
			}

			roots, err := probeRoots(c)
			if err != nil {
				return err
			}

			found, err := p.find(c, c.Args().First())
			if err != nil {
				return err
			}

			good := true
			var all []inspected
			for _, f := range found {
				i := inspect(f, roots)
				good = good && i.OK
				if all = append(all, i); !c.Bool("json") {
					i.write(p.stdout)
				}
			}

			if c.Bool("json") {
				if err := json.NewEncoder(p.stdout).Encode(all); err != nil {
					return err
				}
			}

			if !good {
				return hint.Add(errors.New("a browser would not show its padlock"), "the line marked ✗ says why; --ca FILE trusts a CA that this machine does not know")
			}

			return nil
		},
	}
}

// found is a chain and where it comes from. A request for a certificate has no chain.
type found struct {
	source  string
	name    string // asked for; may be empty
	chain   []*x509.Certificate
	request *x509.CertificateRequest
}

// find takes a file that exists, else what the storage has, else what a server shows.
func (p *program) find(c *cli.Context, what string) ([]found, error) {
	// A file first, as its name can look like a host's: app.example.com.
	if info, err := os.Stat(what); err == nil && info.Mode().IsRegular() {
		return findFile(what, c.String("name"), c.String("password"))
	}

	name, ok := config.WrittenHost(strings.TrimPrefix(what, "*."))
	if ok && strings.HasPrefix(what, "*.") {
		name = "*." + name
	}

	if ok {
		stored, err := p.findStored(c, name)
		if err != nil || len(stored) > 0 {
			return stored, err
		}
	}

	// No connection is attempted to what cannot be an address.
	if strings.ContainsAny(what, "/*") || !ok && !strings.Contains(what, ":") {
		return nil, hint.Add(fmt.Errorf("%q is neither a file, nor a name in the storage, nor HOST:PORT", what), "padlock certs list shows what the storage has")
	}

	return findServed(c.Context, what, c.String("name"), c.Duration("timeout"))
}

const maxInspected = 4 << 20

func findFile(file, name, password string) ([]found, error) {
	data, err := regular.Named(file, maxInspected)
	if err != nil {
		return nil, err
	}

	out := found{source: file, name: name}
	if ext := strings.ToLower(filepath.Ext(file)); ext == ".p12" || ext == ".pfx" {
		if out.chain, err = findPKCS12(file, data, password); err != nil {
			return nil, err
		}
		return []found{out}, nil
	}

	// Names of files do not show it: .crt and .cer are PEM on some systems and DER on others.
	if certificate, err := x509.ParseCertificate(data); err == nil {
		out.chain = []*x509.Certificate{certificate}
		return []found{out}, nil
	}

	blocks, err := pemfile.Parse(file, data)
	if err != nil {
		return nil, err
	}

	for _, block := range blocks {
		switch {
		case block.Type == "CERTIFICATE":
			certificate, err := block.Certificate(file)
			if err != nil {
				return nil, err
			}
			out.chain = append(out.chain, certificate)
		case block.Type == "CERTIFICATE REQUEST":
			if out.request, err = block.Request(file); err != nil {
				return nil, err
			}
		case !block.IsKey() && !block.IsParameters():
			return nil, block.Misplaced(file, "certificates or a request for one")
		}
	}

	if len(out.chain) == 0 && out.request == nil {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}

	return []found{out}, nil
}

func findPKCS12(file string, data []byte, password string) ([]*x509.Certificate, error) {
	if path, ok := strings.CutPrefix(password, "file:"); ok {
		text, err := regular.Named(path, maxInspected)
		if err != nil {
			return nil, err
		}
		password = strings.TrimRight(string(text), "\r\n")
	}

	_, leaf, chain, err := pkcs12.DecodeChain(data, password)
	if err != nil {
		return nil, hint.Add(fmt.Errorf("%s: %w", file, err), "give its password: --password TEXT, or file:PATH")
	}
	return append([]*x509.Certificate{leaf}, chain...), nil
}

func (p *program) findStored(c *cli.Context, name string) ([]found, error) {
	k, err := p.openStorage(c)
	if err != nil {
		return nil, err
	}
	defer k.close()
	stored, err := acme.List(c.Context, k.store, name, k.cfg.Certificates.RenewRatio)
	if err != nil {
		return nil, err
	}

	var all []found
	for _, s := range stored {
		if s.Err != nil {
			return nil, hint.Add(fmt.Errorf("%s in %s: %w", name, k.store, s.Err), "a running padlock sets it aside and orders another")
		}
		all = append(all, found{source: k.store.String(), name: askable(name), chain: parsed(s.Pair.Certificate.Certificate)})
	}

	imported, err := certs.ListImported(c.Context, k.store)
	for _, i := range imported {
		if d := handshake.DescribeCertificate(i.Pair.Certificate, "", time.Now()); d != nil && slices.Contains(d.Names, name) {
			all = append(all, found{source: "imported into " + k.store.String(), name: askable(name), chain: parsed(i.Pair.Certificate)})
		}
	}

	return all, err
}

// askable is a name that a wildcard covers.
func askable(name string) string { return strings.Replace(name, "*", "any", 1) }

func parsed(chain [][]byte) (out []*x509.Certificate) {
	for _, der := range chain {
		if certificate, err := x509.ParseCertificate(der); err == nil {
			out = append(out, certificate)
		}
	}
	return out
}

func findServed(ctx context.Context, address, name string, timeout time.Duration) ([]found, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
		address = net.JoinHostPort(host, "443")
	}

	if name == "" {
		name = host
	}

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// Unverified and with old versions: a certificate that browsers refuse is the one that is to be shown.
	dialer := &tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, hint.Add(err, "padlock probe "+address+" shows each stage of the handshake")
	}
	defer conn.Close()
	return []found{{source: address, name: name, chain: conn.(*tls.Conn).ConnectionState().PeerCertificates}}, nil
}

// inspected is what there is to know. Its JSON names are stable.
type inspected struct {
	Source       string    `json:"source"`
	Names        []string  `json:"names"`
	Subject      string    `json:"subject"`
	Issuer       string    `json:"issuer,omitempty"`
	Validation   string    `json:"validation,omitempty"`
	NotBefore    time.Time `json:"not_before,omitzero"`
	NotAfter     time.Time `json:"not_after,omitzero"`
	Key          string    `json:"key"`
	Signature    string    `json:"signature"`
	Usages       []string  `json:"usages,omitempty"`
	Serial       string    `json:"serial,omitempty"`
	Fingerprint  string    `json:"fingerprint_sha256,omitempty"`
	PublicKeyPin string    `json:"public_key_sha256"`
	Transparency int       `json:"embedded_scts"`
	OCSP         []string  `json:"ocsp,omitempty"`
	CRL          []string  `json:"crl,omitempty"`
	MustStaple   bool      `json:"must_staple,omitempty"`
	CA           bool      `json:"ca,omitempty"`
	Chain        []link    `json:"chain,omitempty"`
	Problems     []string  `json:"problems"`
	OK           bool      `json:"ok"`
}

type link struct {
	Subject  string    `json:"subject"`
	Key      string    `json:"key"`
	NotAfter time.Time `json:"not_after"`
	Sent     bool      `json:"sent"` // false: found among the trusted roots
}

func inspect(f found, roots *x509.CertPool) inspected {
	if len(f.chain) == 0 {
		return inspectRequest(f)
	}

	leaf := f.chain[0]
	raw := make([][]byte, len(f.chain))
	for i, c := range f.chain {
		raw[i] = c.Raw
	}

	d := handshake.DescribeCertificate(raw, f.name, time.Now())
	pin := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	i := inspected{
		Source: f.source, Names: d.Names, Subject: handshake.Escape(leaf.Subject.String()), Issuer: handshake.Escape(leaf.Issuer.String()),
		Validation: validation(leaf), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Key: d.KeyType, Signature: leaf.SignatureAlgorithm.String(),
		Usages: usages(leaf), Serial: hexadecimal(leaf.SerialNumber.Bytes()), Fingerprint: fingerprint(leaf.Raw), PublicKeyPin: base64.StdEncoding.EncodeToString(pin[:]),
		Transparency: timestamps(leaf), OCSP: escaped(leaf.OCSPServer), CRL: escaped(leaf.CRLDistributionPoints), MustStaple: mustStaple(leaf),
		Problems: slices.Clone(d.Problems),
	}
	if i.Problems == nil {
		i.Problems = []string{}
	}

	// A CA's certificate has no host names, which would be a problem of a server's.
	if i.CA = leaf.IsCA; i.CA {
		i.Problems = []string{}
		if now := time.Now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
			i.Problems = append(i.Problems, "it is not valid today")
		}
	} else {
		i.verify(f, roots)
	}

	i.OK = len(i.Problems) == 0
	return i
}

// verify completes the chain with the root that a client would find.
func (i *inspected) verify(f found, roots *x509.CertPool) {
	for _, c := range f.chain {
		i.Chain = append(i.Chain, newLink(c, true))
	}

	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range f.chain[1:] {
		options.Intermediates.AddCert(c)
	}

	chains, err := f.chain[0].Verify(options)
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		for _, c := range chains[0] {
			// What the server has not sent came from the roots of this machine.
			if !slices.ContainsFunc(f.chain, c.Equal) {
				i.Chain = append(i.Chain, newLink(c, false))
			}
		}
		// A policy of the CA/Browser Forum marks a public CA; one of one's own needs no logs.
		if i.Validation != "" && i.Transparency == 0 {
			i.Problems = append(i.Problems, "it carries no timestamps of certificate transparency, which browsers want of public CAs")
		}
	case errors.As(err, &unknown):
		i.Problems = append(i.Problems, "this machine does not trust its CA: "+handshake.Escape(f.chain[len(f.chain)-1].Issuer.String()))
	case len(i.Problems) == 0:
		i.Problems = append(i.Problems, handshake.Escape(err.Error()))
	}
}

func newLink(c *x509.Certificate, sent bool) link {
	key := c.PublicKeyAlgorithm.String()
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		key = fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		key = "ECDSA " + k.Curve.Params().Name
	}
	return link{Subject: handshake.Escape(c.Subject.String()), Key: key, NotAfter: c.NotAfter, Sent: sent}
}

func inspectRequest(f found) inspected {
	r := f.request
	pin := sha256.Sum256(r.RawSubjectPublicKeyInfo)
	i := inspected{
		Source: f.source, Subject: handshake.Escape(r.Subject.String()), Signature: r.SignatureAlgorithm.String(), Problems: []string{},
		Key: newLink(&x509.Certificate{PublicKey: r.PublicKey, PublicKeyAlgorithm: r.PublicKeyAlgorithm}, false).Key, PublicKeyPin: base64.StdEncoding.EncodeToString(pin[:]),
		Names: escaped(r.DNSNames),
	}

	for _, ip := range r.IPAddresses {
		i.Names = append(i.Names, ip.String())
	}

	if err := r.CheckSignature(); err != nil {
		i.Problems = append(i.Problems, "its signature is not made with its key")
	}

	i.OK = len(i.Problems) == 0
	return i
}

func escaped(texts []string) (out []string) {
	for _, t := range texts {
		out = append(out, handshake.Escape(t))
	}
	return out
}

func (i *inspected) write(w io.Writer) {
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(w, "  %-13s %s\n", name, text)
		}
	}

	fmt.Fprintf(w, "%s\n", handshake.Escape(i.Source))
	line("names", strings.Join(i.Names, ", "))
	line("subject", i.Subject)
	if i.Issuer == "" {
		line("key", i.Key)
		line("signature", i.Signature)
		line("public key", "SHA-256 "+i.PublicKeyPin)
		line("kind", "a request for a certificate: a CA signs it, then padlock certs import takes the answer")
		verdict(w, i.Problems, "the request is in order")
		return
	}

	line("issuer", i.Issuer)
	line("validation", i.Validation)
	line("valid", fmt.Sprintf("%s until %s, %s", i.NotBefore.UTC().Format(time.DateTime), i.NotAfter.UTC().Format(time.DateTime), left(i.NotBefore, i.NotAfter)))
	line("key", i.Key)
	line("signature", i.Signature)
	line("usages", strings.Join(i.Usages, ", "))
	line("serial", i.Serial)
	line("fingerprint", "SHA-256 "+i.Fingerprint)
	line("public key", "SHA-256 "+i.PublicKeyPin)
	line("transparency", fmt.Sprintf("%d timestamp(s) of logs", i.Transparency))
	line("OCSP", strings.Join(i.OCSP, ", "))
	line("CRL", strings.Join(i.CRL, ", "))
	if i.MustStaple {
		line("must staple", "yes: a client refuses it without an OCSP response")
	}

	for depth, l := range i.Chain {
		name, branch := "", strings.Repeat("   ", max(depth-1, 0))+"└─ "
		if depth == 0 {
			name, branch = "chain", ""
		}

		note := ""
		if !l.Sent {
			note = ", trusted here"
		}
		fmt.Fprintf(w, "  %-13s %s%s (%s, until %s%s)\n", name, branch, l.Subject, l.Key, l.NotAfter.UTC().Format(time.DateOnly), note)
	}

	if i.CA {
		line("kind", "a CA's own certificate, which clients trust; servers show one that it has signed")
		verdict(w, i.Problems, "it is in order")
		return
	}

	verdict(w, i.Problems, "a browser on this machine shows its padlock")
}

func verdict(w io.Writer, problems []string, good string) {
	if len(problems) == 0 {
		fmt.Fprintf(w, "%s %s\n", mark(probe.Good), good)
	}
	for _, problem := range problems {
		fmt.Fprintf(w, "%s no padlock: %s\n", mark(probe.Bad), problem)
	}
}

func left(from, to time.Time) string {
	now := time.Now()
	switch {
	case now.After(to):
		return "expired " + span(now.Sub(to)) + " ago"
	case now.Before(from):
		return "not valid yet, in " + span(from.Sub(now))
	}
	return fmt.Sprintf("%s left (%.0f %%)", span(to.Sub(now)), 100*to.Sub(now).Seconds()/to.Sub(from).Seconds())
}

// validation is what the CA has verified (CA/Browser Forum Baseline Requirements section 7.1.6.1, EV Guidelines).
func validation(c *x509.Certificate) string {
	for _, policy := range c.PolicyIdentifiers {
		switch policy.String() {
		case "2.23.140.1.2.1":
			return "domain (DV)"
		case "2.23.140.1.2.2":
			return "organization (OV)"
		case "2.23.140.1.2.3":
			return "individual (IV)"
		case "2.23.140.1.1":
			return "extended (EV)"
		}
	}
	return ""
}

func usages(c *x509.Certificate) (out []string) {
	for _, u := range []struct {
		bit  x509.KeyUsage
		name string
	}{
		{x509.KeyUsageDigitalSignature, "digital signature"}, {x509.KeyUsageKeyEncipherment, "key encipherment"},
		{x509.KeyUsageKeyAgreement, "key agreement"}, {x509.KeyUsageCertSign, "certificate signing"}, {x509.KeyUsageCRLSign, "CRL signing"},
	} {
		if c.KeyUsage&u.bit != 0 {
			out = append(out, u.name)
		}
	}

	for _, u := range c.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			out = append(out, "servers")
		case x509.ExtKeyUsageClientAuth:
			out = append(out, "clients")
		case x509.ExtKeyUsageAny:
			out = append(out, "any")
		}
	}
	return out
}

// timestamps counts the embedded SCTs (RFC 6962 section 3.3): a list with a length, of entries with a length each.
func timestamps(c *x509.Certificate) (count int) {
	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
	for _, extension := range c.Extensions {
		var list []byte
		if !extension.Id.Equal(oid) {
			continue
		}
		if rest, err := asn1.Unmarshal(extension.Value, &list); err != nil || len(rest) > 0 || len(list) < 2 {
			return 0
		}

		for list = list[2:]; len(list) >= 2; count++ {
			size := int(list[0])<<8 | int(list[1])
			// A list whose lengths do not add up counts as far as they do.
			if size == 0 || size > len(list)-2 {
				return count
			}
			list = list[2+size:]
		}
	}
	return count
}

// mustStaple reports the TLS feature status_request (RFC 7633).
func mustStaple(c *x509.Certificate) bool {
	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
	for _, extension := range c.Extensions {
		var features []int
		if extension.Id.Equal(oid) {
			// status_request is extension 5 (RFC 6066 section 1.1).
			_, err := asn1.Unmarshal(extension.Value, &features)
			return err == nil && slices.Contains(features, 5)
		}
	}
	return false
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hexadecimal(sum[:])
}

func hexadecimal(b []byte) string {
	text := strings.ToUpper(hex.EncodeToString(b))
	var parts []string
	for i := 0; i+2 <= len(text); i += 2 {
		parts = append(parts, text[i:i+2])
	}
	return strings.Join(parts, ":")
}
