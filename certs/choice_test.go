package certs_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"padlock/certs"
	"padlock/certs/storage"
	"padlock/config"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	key  crypto.Signer
	cert *x509.Certificate
}

var serial = int64(100)

func (a *authority) sign(template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	serial++
	template.SerialNumber = big.NewInt(serial)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func caTemplate(name pkix.Name) *x509.Certificate {
	return &x509.Certificate{Subject: name, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
}

func newRoot(t *testing.T, name string) *authority {
	a := &authority{t: t, key: ecKey(t)}
	a.cert = a.sign(caTemplate(pkix.Name{CommonName: name}), a.key.Public())
	return a
}

// below is another CA with its certificate.
func (a *authority) below(key crypto.Signer, template *x509.Certificate) *authority {
	return &authority{a.t, key, a.sign(template, key.Public())}
}

func pemOf(t *testing.T, all ...any) (out []byte) {
	t.Helper()
	for _, one := range all {
		switch one := one.(type) {
		case *x509.Certificate:
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one.Raw})...)
		case crypto.Signer:
			der, err := x509.MarshalPKCS8PrivateKey(one)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
		}
	}
	return out
}

func put(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Of all certificates for a name, wherever they stand, the one is served that clients accept: valid, then the exact name, then the
// longest lived.
func TestTheValidCertificateIsServedThenTheExactThenTheLongestLived(t *testing.T) {
	hours := func(from, to int) (time.Time, time.Time) {
		return time.Now().Add(time.Duration(from) * time.Hour), time.Now().Add(time.Duration(to) * time.Hour)
	}
	type one struct {
		name     string
		from, to int
		key      int // of the same number, the same key
	}
	for what, c := range map[string]struct {
		all  []one
		want int
	}{
		"the expired one first":                  {[]one{{"app.example.com", -9, -1, 0}, {"app.example.com", -2, 5, 1}}, 1},
		"the expired one last":                   {[]one{{"app.example.com", -2, 5, 0}, {"app.example.com", -1, -1, 1}}, 0},
		"the newest is not valid yet":            {[]one{{"app.example.com", -9, 2, 0}, {"app.example.com", 1, 50, 1}}, 0},
		"the newest of one key is not valid":     {[]one{{"app.example.com", -9, 2, 0}, {"app.example.com", 1, 50, 0}}, 0},
		"an exact one expired, a wildcard valid": {[]one{{"app.example.com", -9, -1, 0}, {"*.example.com", -9, 3, 1}}, 1},
		"both valid: the exact name":             {[]one{{"*.example.com", -9, 90, 0}, {"app.example.com", -9, 3, 1}}, 1},
		"both valid: the longest lived":          {[]one{{"app.example.com", -9, 3, 0}, {"app.example.com", -20, 9, 1}, {"app.example.com", -1, 4, 2}}, 1},
		"of one key the longest lived":           {[]one{{"app.example.com", -1, 3, 0}, {"app.example.com", -5, 9, 0}}, 1},
		"none valid: the last that was":          {[]one{{"app.example.com", -9, -3, 0}, {"app.example.com", -9, -1, 1}}, 1},
	} {
		for _, together := range []bool{true, false} {
			dir, ca := t.TempDir(), newRoot(t, "Root")
			var entries []config.CertificateFile
			keys, leaves := map[int]crypto.Signer{}, []*x509.Certificate{}
			for i, o := range c.all {
				if keys[o.key] == nil {
					keys[o.key] = ecKey(t)
				}
				template := &x509.Certificate{DNSNames: []string{o.name}}
				template.NotBefore, template.NotAfter = hours(o.from, o.to)
				leaves = append(leaves, ca.sign(template, keys[o.key].Public()))
				file := put(t, dir, string(rune('a'+i))+"/fullchain.pem", pemOf(t, leaves[i], keys[o.key]))
				entries = append(entries, config.CertificateFile{Cert: file})
			}
			if together {
				entries = []config.CertificateFile{{Directory: dir}}
			}
			log := &pages{}
			files, err := certs.NewFiles(entries, slog.New(slog.NewTextHandler(log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			got := served(t, certs.New(certs.Options{Files: files}), "app.example.com")
			if got == nil || !got.Equal(leaves[c.want]) {
				t.Errorf("%s (one directory: %v): another certificate is served", what, together)
			}
			valid := c.all[c.want].from < 0 && c.all[c.want].to > 0
			if said := strings.Contains(log.String(), "has expired") || strings.Contains(log.String(), "not valid yet"); said == valid {
				t.Errorf("%s: the log says:\n%s", what, log)
			}
		}
	}
}

// Every file keeps the chain that it has. What a chain lacks is taken from files beside it.
func TestEveryFileKeepsItsOwnChain(t *testing.T) {
	root := newRoot(t, "Root")
	middleKey := ecKey(t)
	middle := root.below(middleKey, caTemplate(pkix.Name{CommonName: "Middle"}))
	longer := caTemplate(pkix.Name{CommonName: "Middle"})
	longer.NotBefore, longer.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(99*time.Hour)
	renewed := root.below(middleKey, longer) // the same name and key
	expired := caTemplate(pkix.Name{CommonName: "Middle"})
	expired.NotBefore, expired.NotAfter = time.Now().Add(-99*time.Hour), time.Now().Add(-time.Hour)
	old := root.below(middleKey, expired)
	namesake := root.below(ecKey(t), caTemplate(pkix.Name{CommonName: "Middle"})) // the same name, another key
	other := newRoot(t, "Other Root")
	rootAgain := &authority{t, root.key, other.sign(caTemplate(pkix.Name{CommonName: "Root"}), root.key.Public())} // cross-signed

	leafKey := ecKey(t)
	leaf := middle.sign(&x509.Certificate{DNSNames: []string{"app.example.com"}}, leafKey.Public())

	for what, c := range map[string]struct {
		own   []any
		else_ map[string][]any
		want  []*x509.Certificate
	}{
		"its own, though another lives longer":      {[]any{leaf, middle.cert}, map[string][]any{"0.pem": {renewed.cert}}, []*x509.Certificate{middle.cert}},
		"its own, though expired":                   {[]any{leaf, old.cert}, map[string][]any{"0.pem": {renewed.cert}}, []*x509.Certificate{old.cert}},
		"in any order, without the root":            {[]any{root.cert, middle.cert, leaf}, nil, []*x509.Certificate{middle.cert}},
		"a cross-signed root is kept":               {[]any{leaf, middle.cert, root.cert, rootAgain.cert}, nil, []*x509.Certificate{middle.cert, rootAgain.cert}},
		"nothing: a valid one is taken":             {[]any{leaf}, map[string][]any{"0.pem": {old.cert}, "1.pem": {namesake.cert}, "2.pem": {middle.cert}, "3.pem": {renewed.cert}}, []*x509.Certificate{renewed.cert}},
		"nothing, and only an expired one is there": {[]any{leaf}, map[string][]any{"0.pem": {old.cert}}, nil},
		"half: the rest is taken":                   {[]any{leaf, middle.cert}, map[string][]any{"0.pem": {rootAgain.cert}}, []*x509.Certificate{middle.cert, rootAgain.cert}},
		"the same leaf with and without a chain":    {[]any{leaf}, map[string][]any{"0.pem": {leaf, old.cert}}, []*x509.Certificate{old.cert}},
	} {
		dir := t.TempDir()
		put(t, dir, "leaf.pem", append(pemOf(t, c.own...), pemOf(t, leafKey)...))
		for name, all := range c.else_ {
			put(t, dir, name, pemOf(t, all...))
		}
		files, err := certs.NewFiles([]config.CertificateFile{{Directory: dir}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		pairs := files.Pairs()
		if len(pairs) != 1 || !bytes.Equal(pairs[0].Certificate[0], leaf.Raw) || len(pairs[0].Certificate) != 1+len(c.want) {
			t.Errorf("%s: %d pairs, %d certificates", what, len(pairs), len(pairs[0].Certificate))
			continue
		}
		for i, link := range c.want {
			if !bytes.Equal(pairs[0].Certificate[i+1], link.Raw) {
				t.Errorf("%s: certificate %d of the chain is another", what, i+1)
			}
		}
	}
}

// Of a chain that cannot be verified, clients are sent what the operator has put into the file, as far as names lead: they may be able to verify
// it, and say what is wrong with it else. The log says so once for each file, and names what is not sent.
func TestAChainThatCannotBeVerifiedIsSentAndWarnedOf(t *testing.T) {
	root := newRoot(t, "Root")
	middle := root.below(ecKey(t), caTemplate(pkix.Name{CommonName: "Middle"}))
	upper := newRoot(t, "Upper").below(root.key, caTemplate(pkix.Name{CommonName: "Root"}))
	namesake := root.below(ecKey(t), caTemplate(pkix.Name{CommonName: "Middle"}))
	stranger := root.below(ecKey(t), caTemplate(pkix.Name{CommonName: "Stranger"}))
	first := root.below(middle.key, &x509.Certificate{Subject: pkix.Name{CommonName: "Middle"}}) // says nothing of being a CA, as those of version 1
	key := ecKey(t)
	leaf := middle.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "app"}, DNSNames: []string{"app.example.com"}}, key.Public())

	for what, c := range map[string]struct {
		own, beside []any
		want        []*x509.Certificate
		said        string
	}{
		"sound":                         {[]any{leaf, middle.cert}, nil, []*x509.Certificate{middle.cert}, ""},
		"of another key":                {[]any{leaf, namesake.cert}, nil, []*x509.Certificate{namesake.cert}, `\"Middle\" has the name of the issuer of \"app\", and`},
		"of another key, and its upper": {[]any{leaf, namesake.cert, upper.cert}, nil, []*x509.Certificate{namesake.cert, upper.cert}, `has the name of the issuer`},
		"no CA by what it says":         {[]any{leaf, first.cert}, nil, []*x509.Certificate{first.cert}, `\"Middle\" is no certificate of a CA`},
		"the right one is beside it":    {[]any{leaf, namesake.cert}, []any{middle.cert}, []*x509.Certificate{middle.cert}, "is not sent"},
		"the right one behind it":       {[]any{leaf, namesake.cert, middle.cert}, nil, []*x509.Certificate{middle.cert}, "is not sent"},
		"a stranger":                    {[]any{leaf, stranger.cert}, nil, nil, "is not sent: no chain of its file leads to it"},
		"a stranger behind a sound one": {[]any{leaf, middle.cert, stranger.cert}, nil, []*x509.Certificate{middle.cert}, "subject=\"CN=Stranger\""},
		"with its root":                 {[]any{leaf, middle.cert, root.cert}, nil, []*x509.Certificate{middle.cert}, ""},
	} {
		dir, log := t.TempDir(), &bytes.Buffer{}
		file := config.CertificateFile{Cert: put(t, dir, "leaf.pem", append(pemOf(t, c.own...), pemOf(t, key)...))}
		if c.beside != nil {
			file.Intermediates = put(t, dir, "ca.pem", pemOf(t, c.beside...))
		}
		files, err := certs.NewFiles([]config.CertificateFile{file}, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		got := files.Pairs()[0].Certificate
		if len(got) != 1+len(c.want) {
			t.Errorf("%s: %d certificates are sent", what, len(got))
			continue
		}
		for i, link := range c.want {
			if !bytes.Equal(got[i+1], link.Raw) {
				t.Errorf("%s: certificate %d of the chain is another", what, i+1)
			}
		}
		said := strings.ReplaceAll(log.String(), `\"`, `"`)
		if want := strings.ReplaceAll(c.said, `\"`, `"`); !strings.Contains(said, want) || c.said == "" && log.Len() > 0 || c.said != "" && !strings.Contains(said, "leaf.pem") {
			t.Errorf("%s: the log says\n%s", what, log)
		}
	}
}

// An issuer whose name is written with another type of string, or that has signed with SHA-1, completes a chain too.
func TestChainsOfOldCAsAreCompleted(t *testing.T) {
	root := newRoot(t, "Root")
	middle := root.below(ecKey(t), caTemplate(pkix.Name{CommonName: "Middle"}))
	utf8 := *middle.cert
	utf8.RawSubject = bytes.Replace(utf8.RawSubject, []byte("\x13\x06Middle"), []byte("\x0c\x06MIDDLE"), 1)
	if bytes.Equal(utf8.RawSubject, middle.cert.RawSubject) {
		t.Fatal("the name is not as this test expects")
	}
	old := root.below(rsaKey(t), caTemplate(pkix.Name{CommonName: "Old"}))

	key := ecKey(t)
	for what, c := range map[string]struct{ leaf, issuer *x509.Certificate }{
		"UTF8String against PrintableString": {(&authority{t, middle.key, &utf8}).sign(&x509.Certificate{DNSNames: []string{"a.test"}}, key.Public()), middle.cert},
		"SHA-1":                              {old.sign(&x509.Certificate{DNSNames: []string{"a.test"}, SignatureAlgorithm: x509.SHA1WithRSA}, key.Public()), old.cert},
	} {
		dir := t.TempDir()
		file := config.CertificateFile{
			Cert: put(t, dir, "leaf.pem", pemOf(t, c.leaf, key)), Intermediates: put(t, dir, "ca.pem", pemOf(t, middle.cert, old.cert, root.cert)),
		}
		files, err := certs.NewFiles([]config.CertificateFile{file}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if chain := files.Pairs()[0].Certificate; len(chain) != 2 || !bytes.Equal(chain[1], c.issuer.Raw) {
			t.Errorf("%s: the chain has %d certificates", what, len(chain))
		}
	}
}

// A file of a directory that cannot be used does not keep others from being served and renewed. It is told, and served as it was before.
func TestAnUnusableFileLeavesTheRestOfItsDirectoryAlone(t *testing.T) {
	dir, log, ca := t.TempDir(), &pages{}, newRoot(t, "Root")
	fresh := func(name string) (*x509.Certificate, []byte) {
		key := ecKey(t)
		leaf := ca.sign(&x509.Certificate{DNSNames: []string{name}}, key.Public())
		return leaf, pemOf(t, leaf, key)
	}
	first, firstPEM := fresh("first.example.com")
	second, secondPEM := fresh("second.example.com")
	put(t, dir, "first/all.pem", firstPEM)
	put(t, dir, "second/all.pem", secondPEM)
	put(t, dir, "broken.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))

	files, err := certs.NewFiles([]config.CertificateFile{{Directory: dir}}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatalf("a broken file keeps padlock from starting: %v", err)
	}
	if all := files.Unusable(); len(all) != 1 || all[0].File != filepath.Join(dir, "broken.pem") || !strings.Contains(log.String(), "broken.pem") {
		t.Errorf("the broken file is not told: %v\n%s", all, log)
	}

	s := watched(t, files)
	put(t, dir, "second/all.pem", secondPEM[:len(secondPEM)/2])
	firstAgain, firstPEM := fresh("first.example.com")
	put(t, dir, "first/all.pem", firstPEM)
	until(t, "the renewal of the first", log, func() bool { return served(t, s, "first.example.com").Equal(firstAgain) })
	until(t, "the second is told", log, func() bool { return len(files.Unusable()) == 2 })
	if firstAgain.Equal(first) || !served(t, s, "second.example.com").Equal(second) {
		t.Error("the second is not served as it was before")
	}

	secondAgain, secondPEM := fresh("second.example.com")
	put(t, dir, "second/all.pem", secondPEM)
	if err := os.Remove(filepath.Join(dir, "broken.pem")); err != nil {
		t.Fatal(err)
	}
	until(t, "the renewal of the second", log, func() bool { return served(t, s, "second.example.com").Equal(secondAgain) })
	until(t, "nothing is wrong any more", log, func() bool { return len(files.Unusable()) == 0 })
	if err := os.RemoveAll(filepath.Join(dir, "second")); err != nil {
		t.Fatal(err)
	}
	until(t, "what is gone is served no longer", log, func() bool { return served(t, s, "second.example.com") == nil })
}

// A reload, as for a log that has been moved away, takes nothing out of service that is served although it cannot be read any more: neither
// a file of a directory nor what was imported, while the storage is away or full.
func TestAReloadServesOnWhatCannotBeRead(t *testing.T) {
	dir, ca, quiet := t.TempDir(), newRoot(t, "Root"), slog.New(slog.DiscardHandler)
	sign := func(name string) []byte {
		key := ecKey(t)
		return pemOf(t, ca.sign(&x509.Certificate{DNSNames: []string{name}}, key.Public()), key)
	}
	put(t, dir, "a.pem", sign("a.example.com"))
	put(t, dir, "b.pem", sign("b.example.com"))
	entry := []config.CertificateFile{{Directory: dir}}
	sound, err := storage.Open(t.Context(), t.TempDir(), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sound.Close()
	if _, err := certs.Import(t.Context(), sound, config.CertificateFile{Cert: put(t, t.TempDir(), "c.pem", sign("c.example.com"))}, quiet); err != nil {
		t.Fatal(err)
	}

	for _, store := range []storage.Store{unwritable{sound}, &leaving{stored: sound}} { // the first has no generation yet
		what := fmt.Sprintf("%T", store)
		first, err := certs.NewFiles(entry, quiet)
		if err != nil {
			t.Fatal(err)
		}
		first.AddImported(t.Context(), store, nil)
		b, err := os.ReadFile(filepath.Join(dir, "b.pem"))
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, "b.pem", b[:len(b)/2])
		if away, ok := store.(*leaving); ok {
			away.gone = true
		}

		before := first
		for range 2 {
			after, err := certs.NewFilesAfter(before, entry, quiet)
			if err != nil {
				t.Fatal(err)
			}
			after.AddImported(t.Context(), store, before)
			s := certs.New(certs.Options{Files: after})
			for _, name := range []string{"a.example.com", "b.example.com", "c.example.com"} {
				if served(t, s, name) == nil {
					t.Errorf("%s: %s is served no longer", what, name)
				}
			}
			if all := after.Unusable(); len(all) == 0 || all[0].File != filepath.Join(dir, "b.pem") {
				t.Errorf("%s: %v is told", what, all)
			}
			before = after
		}
		put(t, dir, "b.pem", b)
	}
}

type stored = storage.Store // embedded under another name than that of its method

// unwritable is a storage on a full disk.
type unwritable struct{ stored }

func (unwritable) StoreFenced(context.Context, string, string, []byte) error { return syscall.ENOSPC }

// leaving is a storage that cannot be reached any more.
type leaving struct {
	stored
	gone bool
}

func (l *leaving) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	if l.gone {
		return nil, syscall.ECONNREFUSED
	}
	return l.stored.List(ctx, prefix, recursive)
}

func (l *leaving) Load(ctx context.Context, key string) ([]byte, error) {
	if l.gone {
		return nil, syscall.ECONNREFUSED
	}
	return l.stored.Load(ctx, key)
}

// A disk that is full leaves files without content. They take nothing out of service, and are told at the start as well; the empty ca.crt that
// cert-manager writes is no mistake.
func TestAnEmptyFileIsUnusable(t *testing.T) {
	dir, log, ca := t.TempDir(), &pages{}, newRoot(t, "Root")
	key := ecKey(t)
	leaf := ca.sign(&x509.Certificate{DNSNames: []string{"app.example.com"}}, key.Public())
	put(t, dir, "tls.crt", pemOf(t, leaf))
	put(t, dir, "tls.key", pemOf(t, key))
	put(t, dir, "ca.crt", nil)
	entry := []config.CertificateFile{{Directory: dir}}
	files, err := certs.NewFiles(entry, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil || len(files.Unusable()) != 0 {
		t.Fatal(err, files.Unusable())
	}

	s := watched(t, files)
	put(t, dir, "tls.crt", nil)
	put(t, dir, "tls.key", []byte("\n"))
	until(t, "both are told", log, func() bool { return len(files.Unusable()) == 2 })
	if got := served(t, s, "app.example.com"); got == nil || !got.Equal(leaf) {
		t.Error("the pair before is not served")
	}

	again, err := certs.NewFiles(entry, slog.New(slog.DiscardHandler))
	if err != nil || len(again.Unusable()) != 2 {
		t.Errorf("at the start %v is told, %v", again.Unusable(), err)
	}
	entry = []config.CertificateFile{{Cert: put(t, dir, "all.pem", pemOf(t, leaf, key)), Intermediates: put(t, dir, "none.pem", nil)}}
	if _, err := certs.NewFiles(entry, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "none.pem holds no certificate") {
		t.Errorf("intermediates without a certificate: %v", err)
	}
}

// Who renews writes key and certificate one after the other. Until both are there, the pair before is served.
func TestBetweenKeyAndCertificateThePairBeforeIsServed(t *testing.T) {
	for _, keyFirst := range []bool{true, false} {
		dir, log, ca := t.TempDir(), &pages{}, newRoot(t, "Root")
		fresh := func(name string) (leaf *x509.Certificate, key crypto.Signer) {
			key = ecKey(t)
			return ca.sign(&x509.Certificate{DNSNames: []string{name}}, key.Public()), key
		}
		other, otherKey := fresh("other.example.com")
		put(t, dir, "other.pem", pemOf(t, other, otherKey))
		before, key := fresh("app.example.com")
		put(t, dir, "cert.pem", pemOf(t, before))
		put(t, dir, "key.pem", pemOf(t, key))
		files, err := certs.NewFiles([]config.CertificateFile{{Directory: dir}}, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		s := watched(t, files)

		after, key := fresh("app.example.com")
		steps := []func(){func() { put(t, dir, "key.pem", pemOf(t, key)) }, func() { put(t, dir, "cert.pem", pemOf(t, after)) }}
		if !keyFirst {
			steps[0], steps[1] = steps[1], steps[0]
		}
		steps[0]()
		until(t, "half a pair is told", log, func() bool { return len(files.Unusable()) == 1 })
		if got := served(t, s, "app.example.com"); got == nil || !got.Equal(before) {
			t.Errorf("key first %v: the pair before is not served", keyFirst)
		}
		steps[1]()
		until(t, "the new pair", log, func() bool { return served(t, s, "app.example.com").Equal(after) && len(files.Unusable()) == 0 })
	}
}
