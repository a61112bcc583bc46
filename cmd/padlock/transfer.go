package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/certs"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/handshake"
)

func (p *program) exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write everything in a storage to a file, private keys included",
		UsageText: "padlock certs export FILE\n\nFILE is a .tar.gz that only you can read; - is standard output.\npadlock certs import FILE --storage PLACE puts it into another storage.", OnUsageError: onUsageError,
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
				return hinted{err, "name another file: this one is not overwritten"}
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

// transferred are the places of a storage that another can go on with; the local CA belongs to its machine.
var transferred = []string{"acme", "autocert", "certificates", "certificates-p384", "certificates-rsa2048", "certificates-rsa4096", "imported", "tickets"}

func writeArchive(ctx context.Context, store storage.Store, w io.Writer) (count int, err error) {
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	for _, prefix := range transferred {
		keys, err := store.List(ctx, prefix, true)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return count, err
		}
		for _, key := range keys {
			data, err := store.Load(ctx, key)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil && storage.Sealed(data) {
				err = hinted{fmt.Errorf("%s: %w", key, storage.ErrSealed), "give the --storage-key"}
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

func (p *program) importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "put a certificate with its key into the storage, or all of an exported one",
		UsageText: "padlock certs import CERTIFICATE --key KEY\npadlock certs import FILE.p12 [--password TEXT|file:PATH]\npadlock certs import EXPORT.tar.gz\n\nA certificate is served by every padlock of the storage within moments. What an export holds replaces nothing, except with --force.", OnUsageError: onUsageError,
		Flags: append(storeFlags(),
			&cli.StringFlag{Name: "key", Usage: "`FILE` with the private key in PEM", EnvVars: []string{"PADLOCK_KEY"}},
			&cli.StringFlag{Name: "intermediates", Usage: "`FILE` with the CA's intermediate certificates in PEM", EnvVars: []string{"PADLOCK_INTERMEDIATES"}},
			&cli.StringFlag{Name: "password", Usage: "`TEXT` that opens PKCS#12, or file:PATH", EnvVars: []string{"PADLOCK_PASSWORD"}},
			&cli.BoolFlag{Name: "force", Usage: "let the values of an export replace those that are there", EnvVars: []string{"PADLOCK_FORCE"}},
		),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError{errors.New("import needs one FILE")}
			}
			k, err := p.openStorage(c)
			if err != nil {
				return err
			}
			defer k.close()
			f, err := os.Open(c.Args().First())
			if err != nil {
				return err
			}
			defer f.Close()
			r := bufio.NewReader(f)
			if magic, _ := r.Peek(2); string(magic) == "\x1f\x8b" {
				return p.importArchive(c, k.store, r)
			}
			return p.importCertificate(c, k)
		},
	}
}

func (p *program) importCertificate(c *cli.Context, k *keeper) error {
	name := c.Args().First()
	file := config.CertificateFile{Intermediates: c.String("intermediates")}
	if ext := strings.ToLower(filepath.Ext(name)); ext == ".p12" || ext == ".pfx" {
		file.PKCS12, file.Password = name, c.String("password")
	} else {
		file.Cert, file.Key = name, c.String("key")
	}
	pairs, err := certs.Import(c.Context, k.store, file, k.log)
	if err != nil {
		return hinted{err, "padlock certs import CERTIFICATE --key KEY, or FILE.p12 --password file:PATH; padlock certs inspect shows what a file holds"}
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
	maxArchived = 1 << 20
	maxEntries  = 2_000_000
)

func (p *program) importArchive(c *cli.Context, store storage.Store, r io.Reader) error {
	compressed, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}
	archive := tar.NewReader(compressed)
	taken, kept := 0, 0
	for range maxEntries {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = fmt.Fprintf(p.stdout, "%d values are in %s now; %d were there already\n", taken, store, kept)
			return err
		}
		if err != nil {
			return fmt.Errorf("reading the export: %w", err)
		}
		if header.Typeflag != tar.TypeReg || !archived(header.Name) || header.Size > maxArchived {
			return fmt.Errorf("reading the export: %q does not belong into a storage", header.Name)
		}
		if store.Exists(c.Context, header.Name) && !c.Bool("force") {
			kept++
			continue
		}
		data, err := io.ReadAll(archive)
		if err == nil {
			err = store.Store(c.Context, header.Name, data)
		}
		if err != nil {
			return fmt.Errorf("importing %s: %w", handshake.Escape(header.Name), err)
		}
		taken++
	}
	return errors.New("the export holds too many values")
}

// archived reports whether a name is one that an export can hold.
func archived(name string) bool {
	for _, prefix := range transferred {
		if strings.HasPrefix(name, prefix+"/") && filepath.IsLocal(name) {
			return true
		}
	}
	return false
}
