package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"padlock/certs"
	"padlock/certs/localca"
)

// archiveOf writes an export with these entries.
func archiveOf(t *testing.T, entries ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	compressed := gzip.NewWriter(&b)
	archive := tar.NewWriter(compressed)
	for _, header := range entries {
		content := bytes.Repeat([]byte("planted"), max(1, int(header.Size)/7))
		if header.Typeflag == 0 {
			header.Typeflag = tar.TypeReg
		}
		if header.Typeflag == tar.TypeReg {
			header.Size = int64(len(content))
		}
		if err := archive.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			if _, err := archive.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if archive.Close() != nil || compressed.Close() != nil {
		t.Fatal("the archive cannot be written")
	}
	file := filepath.Join(t.TempDir(), "export.tar.gz")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// certsImport runs padlock certs import on an archive.
func certsImport(archive, place string) (code int, said string) {
	var out bytes.Buffer
	code = run(context.Background(), []string{"certs", "import", archive, "--force", "--storage", place}, strings.NewReader(""), &out, &out)
	return code, out.String()
}

// An archive from anywhere writes what an export holds and nothing else: one odd entry, and nothing of it is imported. The local CA is
// out of its reach.
func TestAnArchiveWritesNothingButWhatAnExportHolds(t *testing.T) {
	place := filepath.Join(t.TempDir(), "storage")
	ca, err := localca.Open(place, localca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sound := tar.Header{Name: "acme/ca.example-directory/users/default/default.json"}
	for _, odd := range []tar.Header{
		{Name: "imported/../localca/root.pem"}, {Name: "localca/root.pem"}, {Name: "imported/../../localca/root.pem"}, {Name: "/localca/root.pem"},
		{Name: "imported//localca.pem"}, {Name: "imported/./a.pem"}, {Name: "./imported/a.pem"}, {Name: `imported\..\localca\root.pem`},
		{Name: `imported/..\localca\root.pem`}, {Name: "imported/a\nb.pem"}, {Name: "imported/", Typeflag: tar.TypeDir}, {Name: "imported"}, {Name: "imported/a/b.pem"},
		{Name: "imported/a.key"}, {Name: "certificates/a.key"}, {Name: "certificates/../imported/a.pem"}, {Name: "certificates/a/b/c/d.key"},
		{Name: "locks/issue.lock"}, {Name: "admin.sock"}, {Name: "encryption.json"}, {Name: "set-aside/a"}, {Name: "other"},
		{Name: "imported/a.pem", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "imported/a.pem", Typeflag: tar.TypeLink, Linkname: "x"},
	} {
		code, said := certsImport(archiveOf(t, sound, odd), place)
		if code == 0 || !strings.Contains(said, "does not belong into a storage") {
			t.Errorf("%q: exit code %d: %s", odd.Name, code, said)
		}
	}
	again, err := localca.Open(place, localca.Options{})
	if err != nil || again.Fingerprint() != ca.Fingerprint() {
		t.Errorf("the local CA is another one: %v", err)
	}
	if _, err := os.Stat(filepath.Join(place, "acme")); err == nil {
		t.Error("something was imported of an archive with an odd entry")
	}

	// What is sound goes in; a pair under another name than its own, and keys of session tickets, do not.
	code, said := certsImport(archiveOf(t, sound, tar.Header{Name: "imported/bank.example-ecdsa.pem"}, tar.Header{Name: "tickets/keys.json"}), place)
	if code != 0 || !strings.Contains(said, "1 values are in") || !strings.Contains(said, "imported/bank.example-ecdsa.pem is left out") {
		t.Errorf("exit code %d: %s", code, said)
	}
	for _, file := range []string{"imported", "tickets"} {
		if _, err := os.Stat(filepath.Join(place, file)); err == nil {
			t.Errorf("%s is there", file)
		}
	}
	if data, err := os.ReadFile(filepath.Join(place, filepath.FromSlash(sound.Name))); err != nil || string(data) != "planted" {
		t.Errorf("%q, %v", data, err)
	}
}

// The checksum at an archive's end decides before anything is stored: values that were damaged on their way, or an end that is missing.
func TestADamagedArchiveIsRefused(t *testing.T) {
	whole, err := os.ReadFile(archiveOf(t, tar.Header{Name: "acme/ca.example-directory/users/default/default.json"}))
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(t.TempDir(), "storage")
	damaged := slices.Clone(whole)
	damaged[len(damaged)-8] ^= 1 // of the checksum: what it is of does not matter
	for what, content := range map[string][]byte{
		"damaged": damaged, "without its end": whole[:len(whole)-1], "without its checksum": whole[:len(whole)-8], "half": whole[:len(whole)/2],
		"with something behind it": append(slices.Clone(whole), "more"...),
	} {
		file := filepath.Join(t.TempDir(), "all.tar.gz")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, said := certsImport(file, place); code != 1 {
			t.Errorf("%s: exit code %d: %s", what, code, said)
		}
		if _, err := os.Stat(filepath.Join(place, "acme")); err == nil {
			t.Fatalf("%s: something of it was imported", what)
		}
	}
}

// An archive with more than a storage has is refused before anything of it is stored, whatever there is too much of.
func TestAnArchiveOfTooMuchIsRefused(t *testing.T) {
	many := make([]tar.Header, certs.MaxImported+1)
	for i := range many {
		many[i] = tar.Header{Name: fmt.Sprintf("imported/n%d.test-ecdsa.pem", i)}
	}
	place := filepath.Join(t.TempDir(), "storage")
	code, said := certsImport(archiveOf(t, many...), place)
	if code != 1 || !strings.Contains(said, "holds too much") || !strings.Contains(said, "10000 imported certificates") {
		t.Errorf("exit code %d: %s", code, said)
	}
	if _, err := os.Stat(filepath.Join(place, "imported")); err == nil {
		t.Error("something of it was imported")
	}
}

// What an export of an earlier version may have, and is left out, is no way to have any amount unpacked.
func TestWhatIsLeftOutOfAnArchiveIsBounded(t *testing.T) {
	place := filepath.Join(t.TempDir(), "storage")
	code, said := certsImport(archiveOf(t, tar.Header{Name: formerTickets, Size: 8 << 20}), place)
	if code != 1 || !strings.Contains(said, "does not belong into a storage") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// A flag that would be ignored beside a file is refused, with what to do instead; PKCS#12 is recognised whatever its name.
func TestImportRefusesFlagsWithoutAMeaning(t *testing.T) {
	dir := t.TempDir()
	at := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := at("app.pem", "-----BEGIN CERTIFICATE-----\n")
	pfx, der := at("bundle", "\x30\x82\x01\x00\x02\x01\x03\x30"), at("app.der", "\x30\x82\x01\x00\x30\x82\x01\x00")
	export := at("export", "\x1f\x8b\x08")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{text, "--password", "secret"}, 2, "--password has no meaning here: " + text + " is PEM"},
		{[]string{text, "--password", "secret"}, 2, "openssl pkey -in KEY.pem"},
		{[]string{der, "--password", "secret"}, 2, "is PEM"},
		{[]string{text, "--force"}, 2, "--force has no meaning here"},
		{[]string{pfx, "--key", text}, 2, "--key has no meaning here: " + pfx + " is PKCS#12"},
		{[]string{export, "--key", text}, 2, "--key has no meaning here: " + export + " is an export"},
		{[]string{export, "--intermediates", text}, 2, "--intermediates has no meaning here"},
		{[]string{export, "--password", "secret"}, 2, "--password has no meaning here"},
		{[]string{pfx, "--password", "secret"}, 1, "not PKCS#12"}, // it is none, and was taken for one
	} {
		var out bytes.Buffer
		code := run(context.Background(), append(append([]string{"certs", "import"}, c.args...), "--storage", filepath.Join(dir, "storage")), strings.NewReader(""), &out, &out)
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: %d\n%s", c.args, code, &out)
		}
		if strings.Contains(out.String(), "secret") {
			t.Errorf("%q: the password is repeated\n%s", c.args, &out)
		}
	}

	t.Setenv("PADLOCK_PASSWORD", "of another command")
	var out bytes.Buffer
	if run(context.Background(), []string{"certs", "import", text, "--storage", filepath.Join(dir, "storage")}, strings.NewReader(""), &out, &out); strings.Contains(out.String(), "has no meaning") {
		t.Errorf("a variable of the environment is refused:\n%s", &out)
	}
}

// Headers that belong to no value may follow each other without end, and become little when they are compressed.
func TestHeadersOfAnArchiveAreBounded(t *testing.T) {
	record := func(size int) []byte { // of one key, whose length is in front of it
		text := fmt.Sprintf("%d a=%s\n", size, strings.Repeat("b", size))
		return []byte(fmt.Sprintf("%d%s", len(text), text[len(fmt.Sprint(size)):]))
	}(900_000)
	var one bytes.Buffer
	archive := tar.NewWriter(&one)
	// The writer makes no such header by itself: another type of the same size is taken for one.
	if err := archive.WriteHeader(&tar.Header{Name: "PaxHeaders/x", Typeflag: '7', Size: int64(len(record))}); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write(record); err != nil || archive.Flush() != nil {
		t.Fatal(err)
	}
	header := one.Bytes()
	header[156] = tar.TypeXHeader
	sum := int64(8 * ' ')
	for i, c := range header[:512] {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))

	var b bytes.Buffer
	compressed := gzip.NewWriter(&b)
	for range 200 {
		if _, err := compressed.Write(header); err != nil {
			t.Fatal(err)
		}
	}
	if err := compressed.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "all.tar.gz")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	code, said := certsImport(file, filepath.Join(t.TempDir(), "storage"))
	if code != 1 || !strings.Contains(said, "more than 4 MiB stand between two of its values") {
		t.Errorf("exit code %d: %s", code, said)
	}

	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := (&boundedReader{r: &b, ctx: ended, left: 1}).Read(make([]byte, 1)); err == nil {
		t.Error("it is read on after the end")
	}
}
