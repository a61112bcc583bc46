package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func newRoot(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A truststore of Java is read, and a root put in and taken out, under whatever names it is there, in both formats; what else is in it stays.
func TestTheTruststoreOfJava(t *testing.T) {
	program := keytool()
	if program == "" || os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root and keytool")
		}
		t.Skip("needs root and keytool")
	}
	root, other := newRoot(t, "ours"), newRoot(t, "other")
	for _, format := range []string{"JKS", "PKCS12"} {
		file := filepath.Join(t.TempDir(), "cacerts")
		put := func(c *x509.Certificate, alias string) {
			t.Helper()
			keytool := exec.Command(program, "-importcert", "-noprompt", "-alias", alias, "-keystore", file, "-storepass", storePassword, "-storetype", format, "-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE")
			keytool.Stdin = bytes.NewReader(c.Raw)
			if out, err := keytool.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		put(other, "debian:other.pem")
		ours, theirs := &java{root, file}, &java{other, file}
		state := func(when string, want bool) {
			t.Helper()
			trusted, err := ours.Trusted()
			if before, failed := theirs.Trusted(); trusted != want || !before || err != nil || failed != nil {
				t.Errorf("%s, %s: ours %v (%v), the other %v (%v)", format, when, trusted, err, before, failed)
			}
		}
		state("at first", false)
		for _, step := range []struct {
			act  func() error
			want bool
		}{{ours.Remove, false}, {ours.Install, true}, {ours.Install, true}, {ours.Remove, false}} {
			if err := step.act(); err != nil {
				t.Fatal(err)
			}
			state("then", step.want)
		}
		put(root, "debian:padlock_1.pem")
		put(root, "by hand")
		if err := ours.Remove(); err != nil {
			t.Fatal(err)
		}
		state("with two names", false)
	}
}

// keytool lists an entry in a line, and its fingerprint in the next.
func TestNamesInATruststoreAreFoundByTheFingerprint(t *testing.T) {
	root := &x509.Certificate{Raw: []byte("root")}
	const fingerprint = "48:13:49:4D:13:7E:16:31:BB:A3:01:D5:AC:AB:6E:7B:B7:AA:74:CE:11:85:D4:56:56:5E:F5:1D:73:76:77:B2"
	list := "Keystore type: JKS\nYour keystore contains 3 entries\n\n" +
		"debian:other.pem, Nov 30, 2026, trustedCertEntry, \nCertificate fingerprint (SHA-256): 00:11\n" +
		"debian:ours.pem, Nov 30, 2026, trustedCertEntry, \nCertificate fingerprint (SHA-256): " + fingerprint + "\n" +
		"again, Nov 30, 2026, trustedCertEntry, \nCertificate fingerprint (SHA-256): " + fingerprint + "\n"
	if got := aliases([]byte(list), root); !slices.Equal(got, []string{"debian:ours.pem", "again"}) {
		t.Errorf("%q", got)
	}
}
