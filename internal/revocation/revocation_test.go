package revocation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"padlock/internal/pemfile"
)

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a CA, or a certificate, signed by a; of a nil authority a root.
func (a *authority) issue(t *testing.T, serial int64, name string, isCA bool) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
	}
	if isCA {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) list(t *testing.T, next time.Time, serials ...int64) pemfile.Block {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-24 * time.Hour), NextUpdate: next}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pemfile.Block{Type: "X509 CRL", Bytes: der}
}

func file(t *testing.T, blocks ...pemfile.Block) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "revoked.crl")
	if err := os.WriteFile(name, pemfile.Encode(blocks...), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A list that would revoke nobody is an error that names the file, the line, the list's issuer and the CAs that there are.
func TestAListMustBeSignedByOneOfTheCAs(t *testing.T) {
	t.Parallel()
	var nobody *authority
	one, other, same := nobody.issue(t, 1, "one", true), nobody.issue(t, 2, "other", true), nobody.issue(t, 3, "one", true)
	later := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		cas   []*x509.Certificate
		lists []pemfile.Block
		want  string
	}{
		"its CA":          {[]*x509.Certificate{other.cert, one.cert}, []pemfile.Block{one.list(t, later)}, ""},
		"its name twice":  {[]*x509.Certificate{same.cert, one.cert}, []pemfile.Block{one.list(t, later)}, ""},
		"another CA":      {[]*x509.Certificate{other.cert}, []pemfile.Block{one.list(t, later)}, `revoked.crl:1: the revocation list of "CN=one" is of none of the accepted CAs, which are: "CN=other"`},
		"another key":     {[]*x509.Certificate{same.cert, other.cert}, []pemfile.Block{one.list(t, later)}, `revoked.crl:1: the revocation list of "CN=one" is not signed by the CA of that name`},
		"the second list": {[]*x509.Certificate{one.cert}, []pemfile.Block{one.list(t, later), other.list(t, later)}, `:8: the revocation list of "CN=other" is of none`},
		"expired":         {[]*x509.Certificate{one.cert}, []pemfile.Block{one.list(t, time.Now().Add(-time.Second))}, `:1: the revocation list of "CN=one" has expired at `},
	} {
		_, err := Read(file(t, c.lists...), c.cas, time.Now())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, not %q", name, err, c.want)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none"), nil, time.Now()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestEveryCertificateOfAChainIsLookedUp(t *testing.T) {
	t.Parallel()
	var nobody *authority
	root, namesake := nobody.issue(t, 1, "root", true), nobody.issue(t, 1, "root", true)
	below := root.issue(t, 7, "below", true)
	leaf := below.issue(t, 8, "leaf", false)
	cas := []*x509.Certificate{root.cert, namesake.cert, below.cert}
	whole, short := []*x509.Certificate{leaf.cert, below.cert, root.cert}, []*x509.Certificate{leaf.cert, below.cert}
	later := time.Now().Add(time.Hour)
	none, rest := below.list(t, later), root.list(t, later)
	type blocks = []pemfile.Block
	for name, c := range map[string]struct {
		lists blocks
		chain []*x509.Certificate
		at    time.Time
		want  string
	}{
		"good":                                 {blocks{below.list(t, later, 7, 9), rest}, whole, time.Now(), ""},
		"the leaf":                             {blocks{below.list(t, later, 8), rest}, whole, time.Now(), "revoked by its CA"},
		"the intermediate":                     {blocks{none, root.list(t, later, 7)}, whole, time.Now(), "revoked by its CA"},
		"the intermediate, which ends a chain": {blocks{none, root.list(t, later, 7)}, short, time.Now(), "revoked by its CA"},
		"an intermediate that is trusted":      {blocks{none}, short, time.Now(), ""},
		"the number of another issuer":         {blocks{none, root.list(t, later, 8)}, whole, time.Now(), ""},
		"another CA of the root's name":        {blocks{none, namesake.list(t, later)}, whole, time.Now(), "no revocation list of CN=root has certificates such as CN=below"},
		"both CAs of the name":                 {blocks{none, rest, namesake.list(t, later, 7)}, whole, time.Now(), ""},
		"that, at the end of a chain":          {blocks{none, rest, namesake.list(t, later, 7)}, short, time.Now(), ""},
		"no list of the leaf's issuer":         {blocks{rest}, whole, time.Now(), "no revocation list of CN=below has certificates such as CN=leaf"},
		"the root by itself":                   {blocks{none, root.list(t, later, 1)}, whole, time.Now(), ""},
		"expired since":                        {blocks{none}, whole, later.Add(time.Second), "the revocation list of CN=below has expired"},
		"expired, of another issuer":           {blocks{below.list(t, later.Add(time.Hour)), root.list(t, later.Add(time.Hour)), namesake.list(t, later)}, whole, later.Add(time.Second), ""},
	} {
		lists, err := Read(file(t, c.lists...), cas, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lists.Check(c.chain, c.at); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v, not %q", name, err, c.want)
		}
	}
}
