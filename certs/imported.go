package certs

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"padlock/certs/storage"
	"padlock/config"
	"padlock/internal/pemfile"
)

// imported begins the keys of certificates that were put into the storage by hand, for every node: each value is a
// key with its chain, in PEM.
const imported = "imported"

// MaxImported is how many of them padlock takes, and maxImportedBytes how much: each is read again whenever it looks
// for changes.
const (
	MaxImported      = 10_000
	maxImportedBytes = 128 << 20
)

// storeTimeout bounds how long the storage may keep a look at imported certificates waiting.
const storeTimeout = 10 * time.Second

// AddImported serves what has been imported into a storage besides the files. A storage that is away is looked at
// again later; until then what the Files before had of it is served. One that has lost its values is given back what
// was imported, as far as it is known here, or to the Files before; those may be nil.
func (f *Files) AddImported(ctx context.Context, store storage.Store, before *Files) {
	if before != nil {
		f.imported.Store(before.imported.Load())
	}

	// Imported certificates are an entry like a file, so that both are read again, published and reported alike.
	e := &entry{name: "imported into " + store.String(), imported: true}
	generation := ""
	e.read = func(log *slog.Logger) (*material, error) {
		// The reload that added the entry is long over when it is read again.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		now, unknown := storage.Generation(ctx, store)
		if known := f.imported.Load(); known != nil && known.generation != "" && known.generation != now {
			if unknown != nil {
				// Whether what is missing was lost or removed on purpose cannot be known without the generation.
				return &material{}, unknown
			}
			if err := giveBackImported(ctx, store, known.pairs, f.log); err != nil {
				return &material{}, err
			}
		}

		generation = now
		return readImported(ctx, store, log)
	}

	e.taken = func() { f.imported.Store(&importedPairs{generation, e.pairs}) }
	var err error
	if e.pairs, e.seen, err = load(e, f.log); err == nil {
		e.taken()
	} else {
		f.log.Warn("imported certificates cannot be read", "error", err)
		e.wrong = err
		if known := f.imported.Load(); known != nil {
			// The pairs of the Files before are served on.
			e.pairs = known.pairs
		}
	}

	f.entries = append(f.entries, e)
	f.publish()
}

// importedPairs are those that were found in a generation of the storage. They never change.
type importedPairs struct {
	generation string
	pairs      []pair
}

const importedLock = "imported"

// giveBackImported puts certificates into a storage that has come back without them.
func giveBackImported(ctx context.Context, store storage.Store, pairs []pair, log *slog.Logger) error {
	if len(pairs) == 0 {
		return nil
	}
	if err := store.Lock(ctx, importedLock); err != nil {
		return err
	}
	defer func() { _ = store.Unlock(context.WithoutCancel(ctx), importedLock) }()

	for _, pair := range pairs {
		key, value, err := importedValue(pair.Certificate)
		// Another node may have put it back already, or a newer one in its place.
		if err == nil && !store.Exists(ctx, key) {
			err = store.StoreFenced(ctx, importedLock, key, value)
		}
		if err != nil {
			return fmt.Errorf("storing an imported certificate again: %w", err)
		}
	}

	log.Warn("the storage has lost its values; the imported certificates that this node serves are stored again", "storage", store.String(), "count", len(pairs),
		"remedy", "have it keep them: in Redis, appendonly yes; a replica must be complete before it takes over")
	return nil
}

const maxBad = 10 // values of which each is logged

// readImported leaves out what is damaged: one bad value must not take the others away.
func readImported(ctx context.Context, store storage.Store, log *slog.Logger) (*material, error) {
	m := &material{files: map[string][sha256.Size]byte{}}
	keys, err := store.List(ctx, imported, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}

	size, bad := 0, 0
	for i, key := range keys {
		if i == MaxImported || size > maxImportedBytes {
			log.Error("more certificates are imported than padlock takes; the others are left out", "storage", store.String(), "taken", i, "left_out", len(keys)-i,
				"remedy", "padlock certs remove NAME; if nobody here has imported them, find out who can write to the storage")
			break
		}

		data, err := store.Load(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err == nil && len(data) > maxFile {
			err = fmt.Errorf("%w: it has %d bytes, and a certificate with its key has %d at most", storage.ErrUnusable, len(data), maxFile)
		}
		if err != nil && !errors.Is(err, storage.ErrUnusable) {
			// The error concerns all imported certificates, so those that were read before stay in use.
			return m, err
		}

		size += len(data)
		m.files[key] = sha256.Sum256(data)
		if err == nil {
			err = m.value(data, log)
		}
		if err != nil {
			if bad++; bad <= maxBad {
				log.Warn("an imported certificate cannot be used", "key", key, "error", err)
			}
		}
	}

	if bad > maxBad {
		log.Warn("more imported certificates cannot be used", "count", bad-maxBad)
	}

	return m, nil
}

// value takes what a value of the storage holds.
func (m *material) value(data []byte, log *slog.Logger) error {
	if storage.Encrypted(data) {
		return storage.ErrEncrypted
	}
	return m.pem("", data, log)
}

// Import puts the pairs of a file into a storage, from where every node serves them within moments. The first name of
// each is where it is kept, beside pairs of other key types; a pair that was there is replaced.
func Import(ctx context.Context, store storage.Store, file config.CertificateFile, log *slog.Logger) ([]*tls.Certificate, error) {
	found, m, err := load(newEntry(file), log)
	if err != nil {
		return nil, err
	}
	if len(m.unusable) > 0 {
		return nil, m.unusable[0].Reason
	}

	var pairs []*tls.Certificate
	for _, pair := range found {
		pairs = append(pairs, pair.Certificate)
	}

	if len(pairs) == 0 {
		return nil, errNothingLeft
	}

	for _, pair := range pairs {
		key, value, err := importedValue(pair)
		if err == nil {
			err = store.Store(ctx, key, value)
		}
		if err != nil {
			return nil, err
		}
	}

	return pairs, nil
}

// importedValue is what is stored of a pair, and where.
func importedValue(pair *tls.Certificate) (key string, value []byte, err error) {
	name := firstName(pair.Leaf)
	if name == "" {
		return "", nil, errors.New("the certificate names no host, so that no browser would accept it")
	}

	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return "", nil, err
	}

	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: der}) // a Buffer takes all
	for _, der := range pair.Certificate {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}

	return importedKey(name, pair.Leaf), b.Bytes(), nil
}

// CheckImported reports why a value is none that Import puts under a key, for archives that hold what it did.
func CheckImported(key string, value []byte) error {
	pair, err := pemfile.Pair(key, value, key, value)
	if err != nil {
		return err
	}
	if name := firstName(pair.Leaf); name == "" || importedKey(name, pair.Leaf) != key {
		return fmt.Errorf("it holds the certificate of %q, which is not kept under this name", name)
	}
	return nil
}

func firstName(leaf *x509.Certificate) string {
	switch {
	case len(leaf.DNSNames) > 0:
		return strings.ToLower(leaf.DNSNames[0])
	case len(leaf.IPAddresses) > 0:
		return leaf.IPAddresses[0].String()
	}
	return ""
}

func importedKey(name string, leaf *x509.Certificate) string {
	kind := "ecdsa"
	if _, ok := leaf.PublicKey.(*rsa.PublicKey); ok {
		kind = "rsa"
	}
	return fmt.Sprintf("%s/%s-%s.pem", imported, strings.NewReplacer("*", "wildcard_", ":", "-", "/", "_", "\\", "_").Replace(name), kind)
}

// Imported is one pair in the storage.
type Imported struct {
	Key  string // where it is kept
	Pair *tls.Certificate
}

// ListImported lists what has been imported. What is damaged is in its errors, beside the rest.
func ListImported(ctx context.Context, store storage.Store) ([]Imported, error) {
	keys, err := store.List(ctx, imported, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	var all []Imported
	var errs []error
	for _, key := range keys {
		data, err := store.Load(ctx, key)
		if err == nil && storage.Encrypted(data) {
			err = storage.ErrEncrypted
		}

		var pair tls.Certificate
		if err == nil {
			pair, err = pemfile.Pair("", data, "", data)
		}

		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
			continue
		}

		all = append(all, Imported{key, &pair})
	}

	return all, errors.Join(errs...)
}
