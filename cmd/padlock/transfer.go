package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/certs"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/handshake"
	"padlock/internal/hint"
	"padlock/internal/regular"
)

func (p *program) exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write everything in a storage, including private keys, to a file",
		UsageText: "padlock certs export FILE\n\nFILE is a .tar.gz archive that only you can read; - is standard output.\n\nExamples:\n  padlock certs export all.tar.gz\n  padlock certs import all.tar.gz --storage redis://localhost:6379/0", OnUsageError: onUsageError,
		Flags: storeFlags(),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError{errors.New("export needs one FILE, or - for standard output")}
			}

			k, err := p.openStorage(c)
			if err != nil {
				return err
			}
			defer k.close()
			file := c.Args().First()
			if file == "-" {
				_, err := writeArchive(c.Context, k.store, p.stdout)
				return err
			}

			f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return hint.Add(err, "name another file: this one is not overwritten")
			}
			if err != nil {
				return err
			}

			count, err := writeArchive(c.Context, k.store, f)
			if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
				_ = os.Remove(file)
				return err
			}

			_, err = fmt.Fprintf(p.stdout, "%s: %d values of %s. Private keys stand in it as they are: keep it safe\n", file, count, k.store)
			return err
		},
	}
}

// transferred are the places of a storage that another can go on with, and the forms of the keys in each. The local CA
// belongs to its machine. The keys of session tickets are made anew: who wrote an archive would know those of old
// sessions.
var transferred = map[string][]string{
	"acme":                 {"*/users/*/*.json", "*/users/*/*.key", "*/challenge_tokens/*.json"},
	"autocert":             {"*/*"},
	"certificates":         certificateKeys,
	"certificates-p384":    certificateKeys,
	"certificates-rsa2048": certificateKeys,
	"certificates-rsa4096": certificateKeys,
	"imported":             {"*.pem"},
}

var certificateKeys = []string{"*/*/*.crt", "*/*/*.key", "*/*/*.json"}

// formerTickets is in archives of before, and is left out.
const formerTickets = "tickets/keys.json"

func writeArchive(ctx context.Context, store storage.Store, w io.Writer) (count int, err error) {
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	for _, prefix := range slices.Sorted(maps.Keys(transferred)) {
		keys, err := store.List(ctx, prefix, true)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return count, err
		}

		for _, key := range keys {
			data, err := store.Load(ctx, key)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil && storage.Encrypted(data) {
				err = hint.Add(fmt.Errorf("%s: %w", key, storage.ErrEncrypted), "give the --storage-key")
			}
			if err == nil {
				err = archive.WriteHeader(&tar.Header{Name: key, Mode: 0o600, Size: int64(len(data)), ModTime: time.Now(), Typeflag: tar.TypeReg})
			}
			if err == nil {
				_, err = archive.Write(data)
			}
			if err != nil {
				return count, err
			}

			count++
		}
	}

	return count, errors.Join(archive.Close(), compressed.Close())
}

const encryptName = "encrypt"

func (p *program) encryptCommand() *cli.Command {
	return &cli.Command{
		Name: encryptName, Usage: "encrypt a storage that was used without a storage key", OnUsageError: onUsageError,
		UsageText: "padlock certs encrypt --storage PLACE --storage-key KEY\n\nWith a storage key, padlock rejects unencrypted values. This command encrypts the existing values, once, and accepts them as genuine:\n" +
			"check padlock certs list first, without the key. Stop every padlock of the storage before, and start them with the key afterwards.\n\nExamples:\n  padlock certs encrypt --config padlock.yaml",
		Flags: storeFlags(),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
			}

			k, err := p.openStorage(c)
			if err != nil {
				return err
			}
			defer k.close()
			if k.cfg.StorageKey == "" {
				return hint.Add(usageError{errors.New("encrypt needs the storage_key (--storage-key)")}, "openssl rand -base64 32 makes one")
			}

			changed, all, err := storage.Encrypt(c.Context, k.store)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "%s: %d of %d values were not encrypted, and are now\n", k.store, changed, all)
			return err
		},
	}
}

func (p *program) importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "import a certificate with its key, or an exported storage",
		UsageText: "padlock certs import CERTIFICATE --key KEY\npadlock certs import FILE.p12 [--password TEXT|file:PATH]\npadlock certs import EXPORT.tar.gz\n\nEvery padlock with the same storage serves the certificate within 15 seconds. An exported storage does not replace existing values, except with --force.\n\nExamples:\n  padlock certs import shop.example.com.crt --key shop.example.com.key --intermediates ca.pem", OnUsageError: onUsageError,
		Flags: append(storeFlags(),
			&cli.StringFlag{Name: "key", Usage: "PEM `FILE` with the private key", EnvVars: []string{"PADLOCK_KEY"}},
			&cli.StringFlag{Name: "intermediates", Usage: "PEM `FILE` with the CA's intermediate certificates", EnvVars: []string{"PADLOCK_INTERMEDIATES"}},
			&cli.StringFlag{Name: "password", Usage: "`PASSWORD` of the PKCS#12 file, or file:PATH", EnvVars: []string{"PADLOCK_PASSWORD"}},
			&cli.BoolFlag{Name: "force", Usage: "replace existing values with those of the exported storage", EnvVars: []string{"PADLOCK_FORCE"}},
		),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError{errors.New("import needs one FILE")}
			}

			f, err := regular.Open(c.Args().First())
			if err != nil {
				return err
			}
			defer f.Close()
			kind := kindOf(f, c.Args().First())
			if err := unusedFlag(c, kind); err != nil {
				return err
			}

			k, err := p.openStorage(c)
			if err != nil {
				return err
			}
			defer k.close()
			if kind == kindExport {
				return p.importArchive(c, k.store, f)
			}

			return p.importCertificate(c, k, kind)
		},
	}
}

// importedKind is what a file for import holds, in words.
type importedKind string

const (
	kindExport importedKind = "an export"
	kindPKCS12 importedKind = "PKCS#12"
	kindPEM    importedKind = "PEM"
)

// kindOf looks at the first bytes of a file.
func kindOf(f io.Reader, name string) importedKind {
	magic := make([]byte, 16)
	// An error of reading is reported below, where all of the file is read.
	n, _ := io.ReadFull(f, magic)
	ext := strings.ToLower(filepath.Ext(name))
	switch {
	// Recognized by content first, as exports are renamed and extensions are forgotten.
	case bytes.HasPrefix(magic[:n], []byte("\x1f\x8b")):
		return kindExport
	case ext == ".p12" || ext == ".pfx" || beginsPKCS12(magic[:n]):
		return kindPKCS12
	}
	return kindPEM
}

// beginsPKCS12 finds a sequence, whatever form its length has, that begins with the version, 3 (RFC 7292 section 4).
func beginsPKCS12(b []byte) bool {
	if len(b) < 2 || b[0] != 0x30 {
		return false
	}
	head := 2
	if b[1] > 0x80 {
		head += int(b[1] & 0x7f)
	}
	return head < len(b) && bytes.HasPrefix(b[head:], []byte{2, 1, 3})
}

// importFlags are those that have a meaning with some files alone. What the environment says may be meant for other
// commands.
var importFlags = []struct {
	name, environment string
	with              []importedKind
	remedy            string
}{
	{"password", "PADLOCK_PASSWORD", []importedKind{kindPKCS12}, "leave --password out; if the private key is encrypted, decrypt it first: openssl pkey -in KEY.pem -out PLAIN.pem"},
	{"key", "PADLOCK_KEY", []importedKind{kindPEM}, "leave --key out: the file has its key in it"},
	{"intermediates", "PADLOCK_INTERMEDIATES", []importedKind{kindPEM, kindPKCS12}, "leave --intermediates out: an export has the chains in it"},
	{"force", "PADLOCK_FORCE", []importedKind{kindExport}, "leave --force out: a certificate that is imported stands beside those that are there"},
}

// unusedFlag refuses a flag that would be ignored.
func unusedFlag(c *cli.Context, kind importedKind) error {
	for _, flag := range importFlags {
		// A variable may be set for another command in the same shell.
		_, elsewhere := os.LookupEnv(flag.environment)
		if c.IsSet(flag.name) && !elsewhere && !slices.Contains(flag.with, kind) {
			return hint.Add(usageError{fmt.Errorf("--%s has no meaning here: %s is %s", flag.name, c.Args().First(), kind)}, flag.remedy)
		}
	}
	return nil
}

func (p *program) importCertificate(c *cli.Context, k *opened, kind importedKind) error {
	name := c.Args().First()
	file := config.CertificateFile{Intermediates: c.String("intermediates")}
	if kind == kindPKCS12 {
		file.PKCS12, file.Password = name, c.String("password")
	} else {
		file.Cert, file.Key = name, c.String("key")
	}

	pairs, err := certs.Import(c.Context, k.store, file, k.log)
	if err != nil {
		return hint.Add(err, "padlock certs import CERTIFICATE --key KEY, or FILE.p12 --password file:PATH; padlock certs inspect shows what a file holds")
	}

	for _, pair := range pairs {
		d := handshake.DescribeCertificate(pair.Certificate, "", time.Now())
		fmt.Fprintf(p.stdout, "%s: %s certificate by %s, valid until %s, is in %s\n", strings.Join(d.Names, ", "), d.KeyType, d.Issuer, when(&d.NotAfter), k.store)
		for _, problem := range d.Problems {
			fmt.Fprintf(p.stdout, "! %s\n", problem)
		}
	}

	return nil
}

// Bounds of an archive, which may come from anywhere.
const (
	maxArchived = 1 << 20 // bytes of a value
	maxEntries  = 500_000 // certificates of more than 100,000 names
	maxContent  = 4 << 30 // bytes of all values
	maxHeaders  = 4 << 20 // bytes between two values: an archive may have any number of headers before the one of a value
)

// importArchive reads the archive twice: nothing is stored of one in which anything does not belong into a storage.
func (p *program) importArchive(c *cli.Context, store storage.Store, f io.ReadSeeker) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return hint.Add(fmt.Errorf("reading the export: %w", err), "an export is read twice: save it in a file first")
	}
	// The first pass stores nothing: half of an archive would be worse than none.
	if err := eachArchived(c.Context, f, func(string, []byte) error { return nil }); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}

	taken, kept := 0, 0
	err := eachArchived(c.Context, f, func(key string, value []byte) error {
		// What is there may be newer than the export.
		if store.Exists(c.Context, key) && !c.Bool("force") {
			kept++
			return nil
		}

		if strings.HasPrefix(key, "imported/") {
			if err := certs.CheckImported(key, value); err != nil {
				fmt.Fprintf(p.stderr, "! %s is left out: %s\n", handshake.Escape(key), handshake.Escape(err.Error()))
				return nil
			}
		}
		taken++
		return store.Store(c.Context, key, value)
	})
	if err != nil {
		return err
	}

	_, err = fmt.Fprintf(p.stdout, "%d values are in %s now; %d were there already\n", taken, store, kept)
	return err
}

// eachArchived hands over what an archive holds; what does not belong into a storage is an error.
func eachArchived(ctx context.Context, r io.Reader, take func(key string, value []byte) error) error {
	compressed, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}
	bounded := &boundedReader{r: compressed, ctx: ctx}
	archive := tar.NewReader(bounded)
	imported, content := 0, int64(0)
	// An archive is compressed, so a small file may hold anything. The bounds stop it early.
	for range maxEntries {
		if err := ctx.Err(); err != nil {
			return err
		}

		bounded.left = maxHeaders
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return checkSum(compressed)
		}
		if err != nil {
			return fmt.Errorf("reading the export: %w", err)
		}
		// Exports of earlier versions have ticket keys, which would be too old to be of use.
		if header.Name == formerTickets && header.Size <= maxArchived {
			continue
		}
		// Links and odd names could make a directory's storage write elsewhere.
		if header.Typeflag != tar.TypeReg || !archived(header.Name) || header.Size > maxArchived {
			return fmt.Errorf("reading the export: %q does not belong into a storage; nothing of the file is imported", header.Name)
		}

		if strings.HasPrefix(header.Name, "imported/") {
			imported++
		}
		if content += header.Size; imported > certs.MaxImported || content > maxContent {
			break
		}

		bounded.left = maxHeaders
		data, err := io.ReadAll(archive)
		if err == nil {
			err = take(header.Name, data)
		}
		if err != nil {
			return fmt.Errorf("importing %s: %w", handshake.Escape(header.Name), err)
		}
	}

	return hint.Add(
		fmt.Errorf("the export holds too much: at most %d values, %d imported certificates and %d GiB are taken; nothing of the file is imported", maxEntries, certs.MaxImported, maxContent>>30),
		"an export of padlock's own is smaller: find out where this one comes from")

}

// boundedReader reads up to left bytes, and no more once ctx has ended: what is read in one step of an archive is not bounded
// by the archive itself.
type boundedReader struct {
	r    io.Reader
	ctx  context.Context
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.left <= 0 {
		return 0, fmt.Errorf("more than %d MiB stand between two of its values; nothing of the file is imported", maxHeaders>>20)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// checkSum reads the rest of a compressed archive, where its checksum stands: without that, damage would go into the
// storage unseen.
func checkSum(compressed io.Reader) error {
	rest, err := io.Copy(io.Discard, io.LimitReader(compressed, maxArchived+1))
	switch {
	case err != nil:
		return hint.Add(fmt.Errorf("reading the export: the file is damaged, or is not whole; nothing of it is imported: %w", err), "copy the file again, or export again: padlock certs export")
	case rest > maxArchived:
		return errors.New("reading the export: more follows behind its end; nothing of the file is imported")
	}
	return nil
}

// archived reports whether a name is one that an export can hold.
func archived(name string) bool {
	if storage.ValidKey(name) != nil {
		return false
	}
	place, rest, _ := strings.Cut(name, "/")
	return slices.ContainsFunc(transferred[place], func(form string) bool {
		ok, _ := path.Match(form, rest) // the forms are well formed
		return ok
	})
}
