package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/internal/hint"
	"padlock/internal/pemfile"
	"padlock/internal/regular"
)

func (p *program) csrCommand() *cli.Command {
	return &cli.Command{
		Name: "csr", Usage: "create a key and a certificate signing request, for a CA that validates organizations",
		UsageText: "padlock certs csr [flags] NAME...\n\nImport the certificate that the CA sends back with padlock certs import.\n\nExamples:\n  padlock certs csr --organization \"Example Ltd\" --country GB --locality London shop.example.com", OnUsageError: onUsageError,
		Flags: []cli.Flag{
			organizationFlag(),
			&cli.StringFlag{Name: "country", Usage: "two-letter `CODE` of the organization's country", EnvVars: []string{"PADLOCK_COUNTRY"}},
			&cli.StringFlag{Name: "province", Usage: "`NAME` of the state or province", EnvVars: []string{"PADLOCK_PROVINCE"}},
			&cli.StringFlag{Name: "locality", Usage: "`NAME` of the city", EnvVars: []string{"PADLOCK_LOCALITY"}},
			choice("key-type", "p256", "`TYPE` of a new key", config.KeyTypes...),
			&cli.StringFlag{Name: "key", Usage: "`FILE` of the key; an existing key is used (default: NAME.key)", EnvVars: []string{"PADLOCK_KEY"}},
			&cli.StringFlag{Name: "out", Usage: "`FILE` for the request (default: NAME.csr)", EnvVars: []string{"PADLOCK_OUT"}},
		},
		Action: p.csr,
	}
}

func (p *program) csr(c *cli.Context) error {
	names, err := canonicalNames(c)
	if err != nil {
		return err
	}

	switch country := c.String("country"); {
	case len(names) == 0:
		return usageError{errors.New("csr needs at least one NAME")}
	case !slices.Contains(config.KeyTypes, c.String("key-type")):
		return usageError{fmt.Errorf("--key-type must be one of: %s", strings.Join(config.KeyTypes, ", "))}
	case country != "" && len(country) != 2:
		return usageError{errors.New("--country is a code of two letters (ISO 3166-1), such as GB")}
	}

	// Shells expand an asterisk in the name of a file, and Windows allows neither it nor a colon.
	base := strings.ReplaceAll(strings.Replace(names[0], "*", "wildcard", 1), ":", "-")
	keyFile, out := c.String("key"), c.String("out")
	if keyFile == "" {
		keyFile = base + ".key"
	}
	if out == "" {
		out = base + ".csr"
	}

	key, made, err := keyOf(keyFile, c.String("key-type"))
	if err != nil {
		return err
	}
	request, err := signingRequest(c, names, key)
	if err != nil {
		return err
	}
	// A certificate request is public.
	if err := os.WriteFile(out, request, 0o644); err != nil {
		return err
	}

	how := "used"
	if made {
		how = "made; keep it secret, and keep a copy"
	}
	fmt.Fprintf(p.stdout, "%s: the key, %s\n%s: the request, for your CA\n\nNext: padlock certs import CERTIFICATE --key %s\n", keyFile, how, out, keyFile)
	return nil
}

// keyOf reads a key, or makes one where there is none.
func keyOf(file, kind string) (key crypto.Signer, made bool, err error) {
	data, err := regular.Named(file, pemfile.MaxFile)
	if err == nil {
		if key, err = pemfile.Key(file, data); err != nil {
			return nil, false, hint.Add(err, "openssl pkey -in FILE -out NEW converts a key; or leave the file away, and padlock makes one")
		}
		return key, false, nil
	}

	if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if key, err = newKey(kind); err != nil {
		return nil, false, err
	}

	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, false, err
	}

	// Never over another file: a key that appeared since the look above may be the only copy of one in use.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return key, true, errors.Join(err, f.Sync(), f.Close())
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func signingRequest(c *cli.Context, names []string, key crypto.Signer) ([]byte, error) {
	template := &x509.CertificateRequest{}
	// The names that count are the alternative names. CAs refuse a common name of over 64 characters (RFC 5280
	// appendix A.1).
	for _, name := range names {
		if len(name) <= 64 {
			template.Subject.CommonName = name
			break
		}
	}

	for flag, field := range map[string]*[]string{
		"organization": &template.Subject.Organization, "country": &template.Subject.Country,
		"province": &template.Subject.Province, "locality": &template.Subject.Locality,
	} {
		if value := c.String(flag); value != "" {
			*field = []string{value}
		}
	}

	// The codes of ISO 3166-1 are capital letters.
	for i := range template.Subject.Country {
		template.Subject.Country[i] = strings.ToUpper(template.Subject.Country[i])
	}

	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}

	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, err
	}

	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
