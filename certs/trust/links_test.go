package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The links to a root that is gone are found, whatever names them; those of others, and those that lead somewhere,
// stay.
func TestLinksToARemovedRootAreFound(t *testing.T) {
	anchors, dir := t.TempDir(), t.TempDir()
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(anchors, "padlock_local_CA_1_7.crt"), "padlock_local_CA_1_7.pem")
	link("padlock_local_CA_1_7.pem", "22a3047c.0")
	link(filepath.Join(anchors, "padlock_local_CA_1_77.crt"), "padlock_local_CA_1_77.pem") // of another user, gone too
	link("padlock_local_CA_1_77.pem", "22a3047d.0")

	root := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "padlock local CA 1"}}
	found := orphans(dir, root)
	if want := []string{filepath.Join(dir, "22a3047c.0"), filepath.Join(dir, "padlock_local_CA_1_7.pem")}; !slices.Equal(found, want) {
		t.Errorf("%q instead of %q", found, want)
	}

	if err := os.WriteFile(filepath.Join(anchors, "padlock_local_CA_1_7.crt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := orphans(dir, root); len(found) > 0 {
		t.Errorf("%q lead to a root that is there", found)
	}
	if found := orphans(filepath.Join(dir, "missing"), root); len(found) > 0 {
		t.Errorf("%q", found)
	}
}
