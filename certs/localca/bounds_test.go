package localca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"padlock/config"
)

// plant puts a root into the place of a local CA, made of padlock's own by a change.
func plant(t *testing.T, dir string, change func(*x509.Certificate)) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "padlock local CA 00000000"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: config.LocalDomains, PermittedIPRanges: config.PrivateNetworks(),
		PermittedEmailAddresses: []string{nobody}, PermittedURIDomains: []string{nobody},
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})...)
	file := filepath.Join(dir, "localca", bundleFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustCIDR(text string) *net.IPNet {
	_, network, err := net.ParseCIDR(text)
	if err != nil {
		panic(err)
	}
	return network
}

// former is a root as versions before this one made it.
func former(c *x509.Certificate) {
	c.ExtKeyUsage, c.PermittedEmailAddresses, c.PermittedURIDomains = nil, nil, nil
}

// A root that somebody else has put there, and that could sign for more than padlock's own names, is refused with what to do.
func TestARootThatPermitsMoreThanOwnNamesIsRefused(t *testing.T) {
	for what, change := range map[string]func(*x509.Certificate){
		"no constraints": func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains, c.PermittedIPRanges, c.PermittedEmailAddresses, c.PermittedURIDomains = false, nil, nil, nil, nil
		},
		"not critical": func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = false },
		"no names":     func(c *x509.Certificate) { c.PermittedDNSDomains = nil },
		"no addresses": func(c *x509.Certificate) { c.PermittedIPRanges = nil },
		"com":          func(c *x509.Certificate) { c.PermittedDNSDomains = append([]string{"com"}, config.LocalDomains...) },
		"a bank":       func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"bank.example"} },
		"a bank, by a root of before": func(c *x509.Certificate) {
			former(c)
			c.PermittedDNSDomains = append([]string{".bank.example"}, config.LocalDomains...)
		},
		"every IPv4 address": func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{mustCIDR("0.0.0.0/0")} },
		"every IPv6 address": func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{mustCIDR("::/0")} },
		"more than 10/8":     func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{mustCIDR("10.0.0.0/7")} },
		"a public network": func(c *x509.Certificate) {
			c.PermittedIPRanges = append(config.PrivateNetworks(), mustCIDR("8.8.8.0/24"))
		},
		"e-mail": func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"bank.example"} },
		"URIs":   func(c *x509.Certificate) { c.PermittedURIDomains = []string{"bank.example"} },
		"clients": func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		},
		"any use": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			plant(t, dir, change)
			for range 2 { // it stays refused
				ca, err := Open(dir, Options{})
				if err == nil {
					t.Fatalf("it is used, for %v %v", ca.Root().PermittedDNSDomains, ca.Root().PermittedIPRanges)
				}
				if !strings.Contains(err.Error(), bundleFile) || !strings.Contains(err.Error(), "padlock trust --renew") {
					t.Errorf("no place or remedy: %v", err)
				}
			}
			ca, before, err := Renew(dir, Options{})
			if err != nil || before == nil || ca.Permits("bank.example") || ca.Outdated() {
				t.Errorf("renewing: %v, %v", before, err)
			}
		})
	}
	for what, change := range map[string]func(*x509.Certificate){"own": func(*x509.Certificate) {}, "of before": former} {
		dir := t.TempDir()
		plant(t, dir, change)
		ca, err := Open(dir, Options{})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if ca.Outdated() != (what == "of before") || ca.HintOnce() != ca.Outdated() || ca.HintOnce() {
			t.Errorf("%s: outdated is %t, or is said never or twice", what, ca.Outdated())
		}
	}
}

// A name beyond local ones is the user's to allow, once; a root that permits it is no proof that he has.
func TestNamesThatARootPermitsAreTheUsersToAllow(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, func(c *x509.Certificate) {
		former(c)
		c.PermittedDNSDomains = append([]string{"dev.example.com"}, config.LocalDomains...)
	})
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "padlock trust --allow dev.example.com") {
		t.Errorf("nobody has allowed it: %v", err)
	}
	if _, err := Open(dir, Options{Allow: []string{"other.example.com"}}); err == nil {
		t.Error("another name is allowed, and the root is taken")
	}
	if ca, err := Open(dir, Options{Allow: []string{"dev.example.com"}}); err != nil || ca.Root().SerialNumber.Int64() != 1 {
		t.Errorf("it was allowed, and is refused or made anew: %v", err)
	}
	ca, err := Open(dir, Options{})
	if err != nil || !ca.Permits("dev.example.com") {
		t.Errorf("what was allowed is forgotten: %v", err)
	}
	ca, _, err = Renew(dir, Options{})
	if err != nil || !ca.Permits("dev.example.com") || ca.Permits("example.com") {
		t.Errorf("the new root does not permit what was allowed: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "localca", allowedFile), 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("others can allow names: %v", err)
	}
}

// A stolen key signs for TLS servers of local names, and for nothing else: no person, workload, client or program.
func TestAStolenKeySignsForServersAlone(t *testing.T) {
	ca := open(t, Options{})
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	spiffe, err := url.Parse("spiffe://cluster.local/ns/default/sa/admin")
	if err != nil {
		t.Fatal(err)
	}
	own, _ := url.Parse("https://app.test/")
	local := []string{"app.test"}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for what, c := range map[string]struct {
		forged x509.Certificate
		use    x509.ExtKeyUsage
	}{
		"a server":         {x509.Certificate{DNSNames: local, ExtKeyUsage: server}, x509.ExtKeyUsageServerAuth},
		"e-mail":           {x509.Certificate{EmailAddresses: []string{"boss@bank.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}, x509.ExtKeyUsageEmailProtection},
		"e-mail, any use":  {x509.Certificate{EmailAddresses: []string{"boss@bank.example"}}, x509.ExtKeyUsageAny},
		"local e-mail":     {x509.Certificate{EmailAddresses: []string{"root@localhost"}}, x509.ExtKeyUsageAny},
		"a workload":       {x509.Certificate{URIs: []*url.URL{spiffe}}, x509.ExtKeyUsageAny},
		"a workload, name": {x509.Certificate{DNSNames: local, URIs: []*url.URL{spiffe}, ExtKeyUsage: server}, x509.ExtKeyUsageServerAuth},
		"a local URI":      {x509.Certificate{URIs: []*url.URL{own}}, x509.ExtKeyUsageAny},
		"a client":         {x509.Certificate{DNSNames: local, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, x509.ExtKeyUsageClientAuth},
		"code":             {x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}, x509.ExtKeyUsageCodeSigning},
		"a time":           {x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}}, x509.ExtKeyUsageTimeStamping},
	} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c.forged.SerialNumber, c.forged.NotAfter = big.NewInt(2), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, &c.forged, ca.Root(), key.Public(), ca.current.Load().key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{c.use}})
		if (err == nil) != (what == "a server") {
			t.Errorf("%s: %v", what, err)
		}
	}
	leaf, err := ca.Leaf("app.test")
	if err != nil || fmt.Sprint(leaf.Leaf.ExtKeyUsage) != fmt.Sprint(server) || len(leaf.Leaf.UnknownExtKeyUsage) > 0 {
		t.Errorf("a leaf is for %v, %v", leaf.Leaf.ExtKeyUsage, err)
	}
}

// A padlock that runs signs by the new root as soon as there is one; the former is noted for the stores that trust it.
func TestANewRootIsServedByWhoeverRuns(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, former)
	running, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	old, err := running.Leaf("app.test")
	if err != nil {
		t.Fatal(err)
	}
	before := running.Root()
	renewed, replaced, err := Renew(dir, Options{})
	if err != nil || replaced == nil || !replaced.Equal(before) {
		t.Fatalf("%v, %v", replaced, err)
	}
	running.looked.Store(0)
	fresh, err := running.Leaf("app.test")
	if err != nil || fresh == old || !running.Root().Equal(renewed.Root()) || fresh.Leaf.CheckSignatureFrom(renewed.Root()) != nil {
		t.Errorf("the former root signs on: %v", err)
	}
	if all := renewed.Former(); len(all) != 1 || !all[0].Equal(before) {
		t.Errorf("the former roots are %v", all)
	}
	if err := renewed.SetFormer(nil); err != nil || len(renewed.Former()) > 0 {
		t.Errorf("%v, %v", renewed.Former(), err)
	}
	// A root that nobody here has made changes nothing for those who run.
	plant(t, dir, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"com"} })
	running.looked.Store(0)
	if again, err := running.Leaf("app.test"); err != nil || again != fresh {
		t.Errorf("a planted root is taken: %v", err)
	}
}
