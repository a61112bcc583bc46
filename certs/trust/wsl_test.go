package trust

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

// WSL's Windows is asked by the thumbprint, before and after. The real certutil.exe has not been tried: this one keeps what it is given.
func TestTheStoreOfWindowsIsReachedFromWSL(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("KEPT", filepath.Join(bin, "kept"))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for name, script := range map[string]string{
		"wslpath": `echo "$2"`,
		certutilEXE: `[ "$1 $3" = "-user Root" ] || exit 9
case $2 in
-addstore) sha1sum "$4" | cut -d ' ' -f 1 >"$KEPT";;
-store) grep -qx "$4" "$KEPT" || { echo "CertUtil: -store command FAILED: 0x80090011"; exit 1; };;
-delstore) grep -qx "$4" "$KEPT" && rm "$KEPT";;
esac`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w := &windows{root: &x509.Certificate{Raw: []byte("a certificate")}}
	for _, step := range []struct {
		act  func() error
		want bool
	}{{w.Remove, false}, {w.Install, true}, {w.Install, true}, {w.Remove, false}} {
		if err := step.act(); err != nil {
			t.Fatal(err)
		}
		if trusted, err := w.Trusted(); err != nil || trusted != step.want {
			t.Errorf("trusted %v, want %v, %v", trusted, step.want, err)
		}
	}
}
