package localca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, o Options) *CA {
	t.Helper()
	ca, err := Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestALeafForALocalNameVerifies(t *testing.T) {
	ca := open(t, Options{Organization: "Example"})
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	for _, name := range []string{"localhost", "app.localhost", "shop.test", "127.0.0.1", "::1", "10.1.2.3", "192.168.0.9"} {
		leaf, err := ca.Leaf(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := leaf.Leaf.Subject.Organization; len(got) != 1 || got[0] != "Example" {
			t.Errorf("%s: organization %v", name, got)
		}
	}
}

func TestAStolenKeyCannotSignForAPublicName(t *testing.T) {
	ca := open(t, Options{})
	if _, err := ca.Leaf("bank.example.com"); err == nil {
		t.Error("the CA itself signed a public name")
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	for _, forged := range []*x509.Certificate{
		{DNSNames: []string{"bank.example.com"}}, {IPAddresses: []net.IP{net.ParseIP("8.8.8.8")}},
	} {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		forged.SerialNumber, forged.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, forged, ca.Root(), key.Public(), ca.current.Load().key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, _ := x509.ParseCertificate(der)
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots}); err == nil {
			t.Errorf("a forged certificate for %v%v verifies", forged.DNSNames, forged.IPAddresses)
		}
	}
}

func TestProcessesThatStartAtOnceShareOneRoot(t *testing.T) {
	dir := t.TempDir()
	prints := make([]string, 16)
	var all sync.WaitGroup
	for i := range prints {
		all.Go(func() {
			ca, err := Open(dir, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			prints[i] = ca.Fingerprint()
		})
	}
	all.Wait()
	for _, p := range prints {
		if p != prints[0] {
			t.Fatalf("different roots: %v", prints)
		}
	}
}

// On a volume of padlock's group its files are readable by that group, whatever mode they were made with.
func TestTheGroupsVolumeHoldsTheRoot(t *testing.T) {
	dir := t.TempDir()
	ca, err := Open(dir, Options{Allow: []string{"corp.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, shared := ca.Shared(); shared {
		t.Error("a new root is shared")
	}
	for _, name := range []string{ca.file, ca.beside(allowedFile)} {
		if err := os.Chmod(name, 0o660); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(dir, Options{})
	if err != nil {
		t.Fatalf("readable by the own group: %v", err)
	}
	if file, shared := again.Shared(); !shared || file != ca.file || !again.Root().Equal(ca.Root()) || !again.Permits("corp.example") {
		t.Errorf("%s %v", file, shared)
	}
	for _, name := range []string{ca.file, ca.beside(allowedFile)} {
		if err := os.Chmod(name, 0o662); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "chmod 600 it") {
			t.Errorf("%s can be written by everybody: %v", name, err)
		}
		if err := os.Chmod(name, 0o660); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADamagedOrExposedFileIsNamedAndKept(t *testing.T) {
	dir := t.TempDir()
	ca, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(ca.file); info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v", info.Mode())
	}
	whole, _ := os.ReadFile(ca.file)
	os.Chmod(ca.file, 0o644)
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "chmod 600 it") {
		t.Errorf("exposed: %v", err)
	}
	os.Chmod(ca.file, 0o600)
	os.WriteFile(ca.file, whole[:len(whole)/2], 0o600)
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), ca.file) {
		t.Errorf("damaged: %v", err)
	}
	if now, _ := os.ReadFile(ca.file); len(now) != len(whole)/2 {
		t.Error("the damaged file was replaced")
	}
}

func TestAllowingANameMakesARootThatPermitsItAndKeepsTheOthers(t *testing.T) {
	dir := t.TempDir()
	for _, allow := range [][]string{nil, {"dev.example.com"}, {"dev.example.org"}} {
		ca, err := Open(dir, Options{Allow: allow})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append(allow, "localhost") {
			if !ca.Permits(name) {
				t.Errorf("%v: %s is not permitted", allow, name)
			}
		}
	}
	ca, _ := Open(dir, Options{})
	if !ca.Permits("x.dev.example.com") || ca.Permits("example.com") {
		t.Errorf("permitted: %v", ca.Root().PermittedDNSDomains)
	}
}

func TestALeafIsRenewedBeforeItExpiresAndInventedNamesDoNotFillMemory(t *testing.T) {
	now := time.Now()
	ca := open(t, Options{Clock: func() time.Time { return now }})
	first, _ := ca.Leaf("localhost")
	again, _ := ca.Leaf("localhost")
	if first != again {
		t.Error("a fresh leaf was not reused")
	}
	ca.Forget("localhost")
	if first, _ = ca.Leaf("localhost"); first == again {
		t.Error("a leaf that was forgotten was used again")
	}
	now = first.Leaf.NotAfter.Add(-leafLifetime / 4)
	renewed, _ := ca.Leaf("localhost")
	if renewed == first || !renewed.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Error("an old leaf was not renewed")
	}
	for i := range maxLeaves + 50 {
		if _, err := ca.Leaf("n" + big.NewInt(int64(i)).String() + ".localhost"); err != nil {
			t.Fatal(err)
		}
	}
	if len(ca.leaves) > maxLeaves {
		t.Errorf("%d leaves are kept", len(ca.leaves))
	}
}
