package pemfile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// ca is a CA of a test.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB, name string) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &ca{cert, key}
}

func (c *ca) pem() []byte { return Encode(Block{Type: "CERTIFICATE", Bytes: c.cert.Raw}) }

func (c *ca) list(t testing.TB, extensions ...pkix.Extension) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour), ExtraExtensions: extensions,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now()}},
	}, c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (c *ca) listPEM(t testing.TB) []byte { return Encode(Block{Type: "X509 CRL", Bytes: c.list(t)}) }

func (c *ca) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	return Encode(Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// whole are the places in a text at which it may be cut off without a block being damaged: between blocks.
func whole(text []byte) map[int]bool {
	places, inside := map[int]bool{}, false
	for at := range text {
		switch {
		case bytes.HasPrefix(text[at:], []byte("-----BEGIN")):
			places[at] = true
			inside = true
		case inside && bytes.HasSuffix(text[:at], []byte("-----")) && bytes.LastIndex(text[:at], []byte("-----END ")) > bytes.LastIndex(text[:at], []byte("-----BEGIN ")) &&
			!bytes.HasSuffix(text[:at], []byte("-----END ")):
			inside = false
		}
		places[at] = places[at] || !inside
	}
	return places
}

// Whatever one byte of a file becomes, and wherever the file is cut, loses a byte or gets one: it never holds fewer certificates or lists
// without an error. What encoding/pem makes of the same damage shows that the test can fail.
func TestDamageAnywhereNeverTakesABlockAwaySilently(t *testing.T) {
	t.Parallel()
	one, other := newCA(t, "one"), newCA(t, "other")
	headed := fmt.Appendf(nil, "# the first\nsubject=CN=one\n%s\nother\n=====\n%s", one.pem(), other.pem())
	for name, c := range map[string]struct {
		text  []byte
		count func([]byte) (int, error)
	}{
		"certificates": {headed, func(text []byte) (int, error) {
			all, err := Certificates("bundle.pem", text)
			return len(all), err
		}},
		"revocation lists": {bytes.Join([][]byte{one.listPEM(t), other.listPEM(t)}, nil), func(text []byte) (int, error) {
			all, err := RevocationLists("revoked.crl", text)
			return len(all), err
		}},
	} {
		for form, text := range map[string][]byte{
			"LF": c.text, "CRLF": bytes.ReplaceAll(c.text, []byte("\n"), []byte("\r\n")), "BOM": append([]byte("\xef\xbb\xbf"), c.text...),
			"BOM in joined files": bytes.ReplaceAll(c.text, []byte("\n-----BEGIN"), []byte("\n\xef\xbb\xbf-----BEGIN")),
			"joined":              bytes.ReplaceAll(c.text, []byte("-----\n-----"), []byte("----------")),
		} {
			if n, err := c.count(text); n != 2 || err != nil {
				t.Fatalf("%s, %s: %d, %v", name, form, n, err)
			}
			lost, cuts := 0, whole(text)
			judge := func(what string, at int, damaged []byte) {
				blocks, err := Parse("f.pem", damaged)
				n := len(blocks)
				if err == nil && form == "LF" { // what is inside the blocks does not depend on the form
					n, err = c.count(damaged)
				}
				if err == nil && n != 2 {
					t.Errorf("%s, %s, %s at byte %d: %d without an error", name, form, what, at, n)
				}
			}
			for at := range text {
				others := []byte{text[at] ^ 1, '-'}
				if form == "LF" {
					others = append(others, text[at]^0x20, 0, '\n')
				}
				for _, b := range others {
					damaged := bytes.Clone(text)
					damaged[at] = b
					judge(fmt.Sprintf("%q", b), at, damaged)
				}
				judge("insertion", at, append(append(bytes.Clone(text[:at]), 'x'), text[at:]...))
				judge("zeros", at, append(bytes.Clone(text[:at]), make([]byte, len(text)-at)...))
				shorter := append(bytes.Clone(text[:at]), text[at+1:]...)
				judge("deletion", at, shorter)
				if !cuts[at] {
					judge("the end", at, text[:at])
					judge("the beginning", at, text[at:])
				}

				if at%16 != 0 {
					continue // often enough to see that the damage is one that loses blocks
				}
				n := 0
				for block, rest := pem.Decode(shorter); block != nil; block, rest = pem.Decode(rest) {
					n++
				}
				if n != 2 {
					lost++
				}
			}
			if lost == 0 {
				t.Errorf("%s, %s: encoding/pem loses nothing: the test cannot fail", name, form)
			}
		}
	}
}

func TestEveryUsualFormIsRead(t *testing.T) {
	t.Parallel()
	one, other := newCA(t, "one"), newCA(t, "other")
	text := string(one.pem())
	for name, form := range map[string]string{
		"as OpenSSL prints it":        "Certificate:\n    Data:\n        Version: 3 (0x2)\n        Serial Number: 1 (0x1)\n" + text,
		"as openssl pkcs12 prints it": "Bag Attributes\n    localKeyID: 54 69 6D 65 20 31\n    friendlyName: one\nsubject=CN = one\n\nissuer=CN = one\n\n" + text,
		"as curl's bundle has it":     "##\n## Bundle of CA Root Certificates\n##\n\nGlobalSign Root CA\n==================\n" + text,
		"below a ruler":               "--------------------\n" + text,
		"CRLF":                        strings.ReplaceAll(text, "\n", "\r\n"),
		"CR":                          strings.ReplaceAll(text, "\n", "\r"),
		"a byte order mark":           "\xef\xbb\xbf" + text,
		"no line end at the end":      strings.TrimRight(text, "\n"),
		"blanks around lines":         strings.ReplaceAll(" "+text, "\n", " \t\n  "),
		"empty lines":                 strings.ReplaceAll(text, "\n", "\n\n"),
		"the content in one line":     strings.Join([]string{"-----BEGIN CERTIFICATE-----", strings.Join(strings.Split(strings.TrimSpace(text), "\n")[1:len(strings.Split(strings.TrimSpace(text), "\n"))-1], ""), "-----END CERTIFICATE-----"}, "\n"),
		"an old label":                strings.ReplaceAll(text, "CERTIFICATE", "X509 CERTIFICATE"),
		"text in Latin-1 and UTF-8":   "Gr\xfcn é\n" + text,
		"with its key and parameters": "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + string(one.keyPEM(t)) + text,
	} {
		for more, whole := range map[string]string{"": form, ", and another": form + string(other.pem())} {
			all, err := Certificates("bundle.pem", []byte(whole))
			if err != nil || !all[0].Equal(one.cert) || more == "" && len(all) != 1 || more != "" && (len(all) != 2 || !all[1].Equal(other.cert)) {
				t.Errorf("%s%s: %d, %v", name, more, len(all), err)
			}
		}
	}
	lists := bytes.Repeat(bytes.TrimSpace(one.listPEM(t)), 3)
	for name, form := range map[string][]byte{"DER": one.list(t), "three joined": lists, "behind a byte order mark": append([]byte("\xef\xbb\xbf"), lists...)} {
		all, err := RevocationLists("revoked.crl", form)
		if want := 1 + bytes.Count(form, []byte("-----BEGIN"))*2/3; err != nil || len(all) != want {
			t.Errorf("%s: %d lists, not %d, %v", name, len(all), want, err)
		}
	}
}

// Errors name the file, the line, and what is there; never what may be a part of a key.
func TestWhatIsNotUnderstoodIsNamed(t *testing.T) {
	t.Parallel()
	one := newCA(t, "one")
	text, list := string(one.pem()), string(one.listPEM(t))
	lines := strings.Split(text, "\n")
	critical := func(id asn1.ObjectIdentifier, value []byte) string {
		return string(Encode(Block{Type: "X509 CRL", Bytes: one.list(t, pkix.Extension{Id: id, Critical: true, Value: value})}))
	}
	certificates := func(text string) error { _, err := Certificates("f.pem", []byte(text)); return err }
	lists := func(text string) error { _, err := RevocationLists("f.pem", []byte(text)); return err }
	pair := func(text string) error { _, err := Pair("f.pem", []byte(text), "f.pem", []byte(text)); return err }
	for name, c := range map[string]struct {
		read func(string) error
		text string
		want string
	}{
		"nothing":                   {certificates, "", "f.pem: holds no certificate in PEM"},
		"a key alone":               {certificates, string(one.keyPEM(t)), "f.pem: holds no certificate in PEM"},
		"no list":                   {lists, "hello\n", "f.pem: holds no revocation list in PEM or DER"},
		"a list among certificates": {certificates, text + list, fmt.Sprintf("f.pem:%d: a block \"X509 CRL\" begins here, where certificates are expected: revocation lists have a key", len(lines))},
		"a certificate among lists": {lists, list + text, "a block \"CERTIFICATE\" begins here, where revocation lists are expected"},
		"OpenSSL's trusted ones":    {certificates, strings.ReplaceAll(text, "CERTIFICATE", "TRUSTED CERTIFICATE"), "f.pem:1: a block \"TRUSTED CERTIFICATE\" begins here, where certificates are expected: openssl x509"},
		"PKCS#7":                    {certificates, strings.ReplaceAll(text, "CERTIFICATE", "PKCS7"), "openssl pkcs7 -print_certs"},
		"cut short":                 {certificates, text + text[:len(text)/2], fmt.Sprintf("f.pem:%d: the CERTIFICATE that begins here has no END line: the file is cut short", len(lines))},
		"two ends":                  {certificates, text + lines[len(lines)-2] + "\n", fmt.Sprintf("f.pem:%d: \"-----END CERTIFICATE-----\" ends a block that has not begun", len(lines))},
		"another end":               {certificates, strings.Replace(text, "END CERTIFICATE", "END X509 CRL", 1), "END X509 CRL ends the CERTIFICATE that begins at line 1"},
		"commented out":             {certificates, text + "# " + text, "\"# -----BEGIN CERTIFICATE-----\" is a damaged BEGIN or END line"},
		"no DER":                    {certificates, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "f.pem:1: the CERTIFICATE that begins here is damaged: x509: "},
		"a curve of Bitcoin's":      {certificates, given(t, "secp256k1.pem"), "f.pem:1: the CERTIFICATE that begins here has a key of a curve that TLS does not use"},
		"a curve written out":       {certificates, given(t, "explicit.pem"), "or whose parameters are written out: make one with openssl ecparam -genkey -name prime256v1: x509: "},
		"an empty block":            {certificates, "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "f.pem:1: the CERTIFICATE that begins here is empty"},
		"UTF-16":                    {certificates, "\xff\xfe-\x00-\x00", "f.pem:1: is text in UTF-16"},
		"DER":                       {certificates, string(one.cert.Raw), "f.pem:1: is DER, and PEM is expected: openssl x509 -inform der"},
		"bytes behind a list":       {lists, string(one.list(t)) + "x", "f.pem: is no revocation list in PEM or DER: 1 bytes follow it"},
		"two lists in DER":          {lists, string(one.list(t)) + string(one.list(t)), "bytes follow it"},
		"a list that is cut":        {lists, string(one.list(t)[:100]), "f.pem: is no revocation list in PEM or DER: x509: malformed crl"},
		"a delta list":              {lists, critical(deltaIndicator, []byte{2, 1, 1}), "f.pem:1: the X509 CRL that begins here is damaged: it is a delta list"},
		"an indirect list":          {lists, critical(distributionPoint, []byte{0x30, 3, 0x84, 1, 0xff}), "it is an indirect list"},
		"a list of users alone":     {lists, critical(distributionPoint, []byte{0x30, 3, 0x81, 1, 0xff}), ""},
		"an unknown extension":      {lists, critical(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0}), "it has the critical extension 1.2.3"},
		"no key":                    {pair, text, "f.pem: holds no private key in PEM"},
		"two keys":                  {pair, text + string(one.keyPEM(t)) + string(one.keyPEM(t)), "a second private key begins here"},
		"another's key":             {pair, text + string(newCA(t, "x").keyPEM(t)), "f.pem: private key does not match public key: the certificate is made for another key"},
		"a damaged key":             {pair, text + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "the private key is damaged, or of a kind that TLS does not use"},
		"an encrypted key":          {pair, text + "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", "the private key is encrypted with a password"},
		"a pair":                    {pair, text + string(one.keyPEM(t)), ""},
	} {
		err := c.read(c.text)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, not %q", name, err, c.want)
		}
	}

	key := string(one.keyPEM(t))
	for at := range key {
		for _, damaged := range []string{key[:at] + ":" + key[at+1:], key[:at] + "-----" + key[at:], key[:at] + key[min(len(key), at+1):]} {
			_, err := Parse("f.pem", []byte(damaged))
			for part := range strings.FieldsSeq(strings.ReplaceAll(fmt.Sprint(err), "\"", " ")) {
				if len(part) > 20 && strings.Contains(key, part) && !strings.Contains(part, "-----") {
					t.Fatalf("the error quotes the key: %v", err)
				}
			}
		}
	}
}

// Whatever bytes come, nothing is skipped: as many BEGIN lines as blocks, and what was read can be written and read again. What
// encoding/pem finds in a text that is accepted is what we find.
func FuzzPEM(f *testing.F) {
	one := newCA(f, "one")
	f.Add(one.pem())
	f.Add(one.listPEM(f))
	f.Add(bytes.Repeat(bytes.TrimSpace(one.pem()), 3))
	f.Add([]byte("\xef\xbb\xbfsubject=x\r\n-----BEGIN A-----\r\nX: y\r\n\r\nAAAA\r\n-----END A-----"))
	f.Add([]byte("-----BEGIN A-----\n\nAAAA\n-----END A----------BEGIN B-----\nAAAA-----END B-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, err := Parse("f.pem", data)
		_, _ = Certificates("f.pem", data)
		_, _ = RevocationLists("f.pem", data)
		_, _ = Pair("f.pem", data, "f.pem", data)
		if err != nil {
			return
		}
		if n := bytes.Count(data, []byte("-----BEGIN ")); n != len(blocks) {
			t.Fatalf("%d blocks of %d BEGIN lines", len(blocks), n)
		}
		again, err := Parse("again", Encode(blocks...))
		if err != nil || len(again) != len(blocks) {
			t.Fatalf("written and read again: %d of %d, %v", len(again), len(blocks), err)
		}
		for i := range again {
			if again[i].Type != blocks[i].Type || !bytes.Equal(again[i].Bytes, blocks[i].Bytes) {
				t.Fatalf("block %d is another when it is read again", i)
			}
		}

		known := 0
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			for known < len(blocks) && !bytes.Equal(blocks[known].Bytes, block.Bytes) {
				known++
			}
			if known == len(blocks) {
				t.Fatalf("encoding/pem finds a block %q that is not among ours", block.Type)
			}
			known++
		}
	})
}

// Nothing else in the program reads PEM: what the standard library has for it skips what it cannot read.
func TestNothingElseReadsPEM(t *testing.T) {
	t.Parallel()
	elsewhere := regexp.MustCompile(`\bpem\.Decode\(|\.AppendCertsFromPEM\(|\btls\.X509KeyPair\(|\btls\.LoadX509KeyPair\(`)
	seen := 0
	err := filepath.WalkDir("../..", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{"servicetest", "otlptest", "bench", "e2e", "examples", ".git"}, entry.Name()) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		seen++
		text, err := os.ReadFile(path)
		if at := elsewhere.FindIndex(text); at != nil {
			t.Errorf("%s:%d: %s reads PEM: use padlock/internal/pemfile", path, 1+bytes.Count(text[:at[0]], []byte("\n")), text[at[0]:at[1]])
		}
		return err
	})
	if err != nil || seen < 100 {
		t.Fatalf("%d files, %v", seen, err)
	}
}

// given is a file that OpenSSL has made: crypto/x509 makes none of these.
func given(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
