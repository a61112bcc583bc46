package certs_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"padlock/certs"
	"padlock/config"
	"padlock/internal/servicetest"
)

// in reads a file of PKCS#12, whose pair must be that of its leaf with a chain of one.
func in(t *testing.T, what, file, password string, leaf, middle []byte) {
	t.Helper()
	files, err := certs.NewFiles([]config.CertificateFile{{PKCS12: file, Password: password}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if all := files.Pairs(); len(all) != 1 || len(all[0].Certificate) != 2 || !bytes.Equal(all[0].Certificate[0], leaf) || !bytes.Equal(all[0].Certificate[1], middle) {
		t.Errorf("%s: %d pairs", what, len(all))
	}
	marked := put(t, t.TempDir(), "password", []byte("\ufeff"+password+"\r\n")) // as Windows' Notepad may write it
	if _, err := certs.NewFiles([]config.CertificateFile{{PKCS12: file, Password: "file:" + marked}}, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("%s, with the password from a file: %v", what, err)
	}
	_, err = certs.NewFiles([]config.CertificateFile{{PKCS12: file, Password: "wrong"}}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "the password is wrong") {
		t.Errorf("%s, with a wrong password: %v", what, err)
	}
}

// NSS's own program, and so Firefox and Thunderbird, writes BER.
func TestPKCS12OfNSS(t *testing.T) {
	key, leaf, middle := issued(t, "app.example.com")
	dir := t.TempDir()
	der, err := pkcs12.Modern.WithIterations(1000).Encode(key, leaf, nil, "secret")
	if err != nil {
		t.Fatal(err)
	}
	nss := func(program string, args ...string) {
		t.Helper()
		if out, err := exec.Command(servicetest.Need(t, program), append(args, "-d", "sql:"+dir)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
	}
	nss("certutil", "-N", "--empty-password")
	nss("certutil", "-A", "-n", "middle", "-t", "CT,,", "-i", put(t, dir, "middle.pem", pemOf(t, middle)))
	nss("pk12util", "-i", put(t, dir, "in.p12", der), "-W", "secret", "-K", "")

	out, err := exec.Command(servicetest.Need(t, "certutil"), "-L", "-d", "sql:"+dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	for line := range strings.SplitSeq(string(out), "\n") {
		if strings.HasSuffix(strings.TrimSpace(line), "u,u,u") {
			name = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "u,u,u"))
		}
	}
	for _, c := range [][]string{nil, {"-c", "AES-256-CBC", "-C", "AES-256-CBC"}, {"-c", "PKCS #12 V2 PBE With SHA-1 And 3KEY Triple DES-CBC", "-C", "PKCS #12 V2 PBE With SHA-1 And 40 Bit RC2 CBC"}} {
		file := filepath.Join(dir, "out.p12")
		nss("pk12util", append([]string{"-o", file, "-n", name, "-W", "secret", "-K", ""}, c...)...)
		data, err := os.ReadFile(file)
		if err != nil || len(data) < 2 || data[1] != 0x80 {
			t.Fatalf("%v: it is no BER: % x", err, data[:2])
		}
		in(t, "pk12util "+strings.Join(c, " "), file, "secret", leaf.Raw, middle.Raw)
	}
}

// Bouncy Castle writes every level with an indefinite length, and strings in pieces.
func TestPKCS12InBER(t *testing.T) {
	key, leaf, middle := issued(t, "app.example.com")
	for what, encoder := range map[string]*pkcs12.Encoder{"modern": pkcs12.Modern, "legacy": pkcs12.LegacyDES, "legacy, RC2": pkcs12.LegacyRC2} {
		der, err := encoder.Encode(key, leaf, []*x509.Certificate{middle}, "secret")
		if err != nil {
			t.Fatal(err)
		}
		in(t, what+", in DER", put(t, t.TempDir(), "a.p12", der), "secret", leaf.Raw, middle.Raw)
		in(t, what+", in BER", put(t, t.TempDir(), "b.p12", indefinite(t, der)), "secret", leaf.Raw, middle.Raw)
	}
}

// indefinite writes a value in BER.
func indefinite(t *testing.T, der []byte) (out []byte) {
	t.Helper()
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			t.Fatal(err)
		}
		identifier, pieces := der[0], []byte(nil)
		der = rest
		switch {
		case v.IsCompound:
			pieces = indefinite(t, v.Bytes)
		case v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOctetString && len(v.Bytes) > 4:
			for rest := v.Bytes; len(rest) > 0; {
				n := min(len(rest), 100)
				piece, _ := asn1.Marshal(rest[:n])
				pieces, rest = append(pieces, piece...), rest[n:]
			}
			identifier |= 0x20
		default:
			out = append(out, v.FullBytes...)
			continue
		}
		out = append(append(append(out, identifier, 0x80), pieces...), 0, 0)
	}
	return out
}
