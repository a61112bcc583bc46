package acme

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"

	"padlock/certs/storage"
	"padlock/handshake"
	"padlock/internal/pemfile"
)

// atomicStore is the storage as certmagic sees it for certificates of one key type. certmagic keeps a certificate as
// three values, its key first; if it is stopped between them, key and certificate do not match, and on a full disk it
// deletes what was there before. So the atomic store collects the three, writes them as one value (the journal) under
// the lock of the name, and only then puts each in its place. Who reads takes the journal, if there is one, for what
// counts.
type atomicStore struct {
	backend
	area string // where certificates lie: certificates for P-256, as certmagic has it, else certificates-KIND

	// Decides about an account that certmagic deletes; nil: it goes.
	forget func(ctx context.Context, v *atomicStore, key string) error

	mu      sync.Mutex
	staged  map[string]*storedCert // by directory
	refused error                  // why what the CA sent last was not stored
}

type backend = storage.Store // as a field named Store cannot stand beside the method

// storedCert is a certificate with all that belongs to it.
type storedCert struct {
	Key         string
	Certificate string
	Metadata    json.RawMessage
}

const (
	area             = "certificates/"
	journal          = "/journal.json"
	quarantineFolder = "set-aside/"
)

func (c *Client) atomicStore(kind string) *atomicStore { return newAtomicStore(c.o.Store, kind) }

func newAtomicStore(store storage.Store, kind string) *atomicStore {
	return &atomicStore{backend: store, area: areaOf(kind), staged: map[string]*storedCert{}}
}

// place is a key's own in the store.
func (v *atomicStore) place(key string) string {
	if rest, ok := strings.CutPrefix(key, area); ok {
		return v.area + rest
	}
	return key
}

// part splits the key of a certificate's value into its directory and which of the three it is.
func part(key string) (dir, extension string, ok bool) {
	extension = path.Ext(key)
	ok = strings.HasPrefix(key, area) && (extension == ".key" || extension == ".crt" || extension == ".json")
	return path.Dir(key), extension, ok
}

// Store implements certmagic.Storage.
func (v *atomicStore) Store(ctx context.Context, key string, value []byte) error {
	if _, _, ok := part(key); !ok {
		return v.backend.Store(ctx, v.place(key), value)
	}

	// certmagic stores three values in a row. Nothing is written before all three are here.
	dir, complete := v.stage(key, value)
	if complete == nil {
		return nil
	}

	// A CA's mistake must not replace a certificate that still works.
	err := v.accept(ctx, path.Base(path.Dir(dir)), complete)
	v.mu.Lock()
	v.refused = err
	v.mu.Unlock()
	if err == nil {
		err = v.commit(ctx, dir, complete)
	}
	if err != nil {
		// certmagic deletes the other two values now as well. Delete finds out what that means.
		return err
	}

	v.mu.Lock()
	delete(v.staged, dir)
	v.mu.Unlock()
	return nil
}

// accept refuses a new certificate that is of no use, so that it does not take the place of one that is.
func (v *atomicStore) accept(ctx context.Context, issuer string, b *storedCert) error {
	var resource certmagic.CertificateResource
	if err := json.Unmarshal(b.Metadata, &resource); err != nil || len(resource.SANs) == 0 {
		return fmt.Errorf("the metadata of a certificate: %w", errors.Join(err, errMetadata))
	}
	name := resource.SANs[0]
	refuse := func(why string) error {
		return &Error{
			Name: name, Refused: true, Cause: "the CA has sent a certificate that cannot be used: " + handshake.Escape(why),
			Remedy: "ask the CA, or choose another (certificates.issuers); what was there before is served on",
		}
	}

	fresh, err := b.open(name)
	if err != nil && !errors.Is(err, errMetadata) {
		return refuse(err.Error())
	}
	if time.Now().Before(fresh.Leaf.NotAfter) {
		return nil
	}

	old, err := v.storedCert(ctx, issuer, name)
	if err != nil {
		return nil // nothing is there that could be lost
	}
	// An expired certificate is accepted only where nothing better would be lost.
	if before, _ := old.open(name); before != nil && time.Now().Before(before.Leaf.NotAfter) {
		return refuse("it expired on " + fresh.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}

	return nil
}

// whyRefused says why what the CA sent last was not stored.
func (v *atomicStore) whyRefused() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := v.refused
	v.refused = nil
	return err
}

// stage keeps a value, and returns all three when they are together.
func (v *atomicStore) stage(key string, value []byte) (dir string, complete *storedCert) {
	dir, extension, _ := part(key)
	v.mu.Lock()
	defer v.mu.Unlock()
	b := v.staged[dir]
	if b == nil {
		b = &storedCert{}
		v.staged[dir] = b
	}

	switch extension {
	case ".key":
		b.Key = string(value)
	case ".crt":
		b.Certificate = string(value)
	case ".json":
		b.Metadata = value
	}

	if b.Key == "" || b.Certificate == "" || b.Metadata == nil {
		return dir, nil
	}

	return dir, b
}

// commit writes the journal, with which the certificate has been stored, and then what a reader without padlock would
// look for.
func (v *atomicStore) commit(ctx context.Context, dir string, b *storedCert) error {
	return v.put(ctx, lockOf(path.Base(dir)), dir, b)
}

// put is commit for the holder of a lock.
func (v *atomicStore) put(ctx context.Context, lock, dir string, b *storedCert) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	// Fenced, so that a node that lost the lock while it was frozen cannot overwrite the newer certificate.
	if err := v.StoreFenced(ctx, lock, v.place(dir)+journal, data); err != nil {
		return err
	}
	v.spread(ctx, dir, b)
	return nil
}

// lockOf is certmagic's name for the lock of a certificate's order.
func lockOf(name string) string {
	return "issue_cert_" + strings.ReplaceAll(name, "wildcard_", "*")
}

// spread ends a journal, under the lock of the name. What fails is left: the journal counts until the next is written.
func (v *atomicStore) spread(ctx context.Context, dir string, b *storedCert) {
	base := v.place(dir) + "/" + path.Base(dir)
	err := errors.Join(v.backend.Store(ctx, base+".key", []byte(b.Key)), v.backend.Store(ctx, base+".crt", []byte(b.Certificate)), v.backend.Store(ctx, base+".json", b.Metadata))
	// The journal stays until all three values are in place: readers prefer it.
	if err == nil {
		_ = v.backend.Delete(ctx, v.place(dir)+journal)
	}
}

// Delete implements certmagic.Storage. certmagic deletes single values of a certificate only to undo what it has just
// stored, which never left it.
func (v *atomicStore) Delete(ctx context.Context, key string) error {
	if dir, _, ok := part(key); ok {
		v.mu.Lock()
		delete(v.staged, dir)
		v.mu.Unlock()
		return nil
	}
	if v.forget != nil && isAccount(key) {
		return v.forget(ctx, v, key)
	}
	return v.backend.Delete(ctx, v.place(key))
}

// Load implements certmagic.Storage.
func (v *atomicStore) Load(ctx context.Context, key string) ([]byte, error) {
	dir, extension, ok := part(key)
	if !ok {
		return v.backend.Load(ctx, v.place(key))
	}
	// A journal means that the values in place may belong to two different certificates.
	b, err := v.journal(ctx, dir)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return v.backend.Load(ctx, v.place(key))
	}
	return map[string][]byte{".key": []byte(b.Key), ".crt": []byte(b.Certificate), ".json": b.Metadata}[extension], nil
}

// journal is nil where there is none, which is the rule.
func (v *atomicStore) journal(ctx context.Context, dir string) (*storedCert, error) {
	data, err := v.backend.Load(ctx, v.place(dir)+journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}

	b := &storedCert{}
	if err == nil && storage.Encrypted(data) {
		return nil, fmt.Errorf("reading %s: %w", v.place(dir)+journal, storage.ErrEncrypted)
	}
	if err == nil && json.Unmarshal(data, b) != nil {
		// We never wrote this journal, so the values that are in place still count.
		return nil, v.backend.Delete(ctx, v.place(dir)+journal)
	}
	if err != nil {
		return nil, err
	}

	return b, nil
}

// Exists implements certmagic.Storage.
func (v *atomicStore) Exists(ctx context.Context, key string) bool {
	if dir, _, ok := part(key); ok && v.backend.Exists(ctx, v.place(dir)+journal) {
		return true
	}
	return v.backend.Exists(ctx, v.place(key))
}

// Stat implements certmagic.Storage.
func (v *atomicStore) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	return v.backend.Stat(ctx, v.place(key))
}

// List implements certmagic.Storage.
func (v *atomicStore) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	keys, err := v.backend.List(ctx, v.place(prefix), recursive)
	for i, key := range keys {
		if rest, ok := strings.CutPrefix(key, v.area); ok {
			keys[i] = area + rest
		}
	}
	return keys, err
}

// storedCert reads a certificate whole; fs.ErrNotExist means that nothing of it is there.
func (v *atomicStore) storedCert(ctx context.Context, issuer, name string) (*storedCert, error) {
	dir := certmagic.StorageKeys.CertsSitePrefix(issuer, name)
	b, err := v.journal(ctx, dir)
	if err != nil {
		return nil, err
	}

	if b != nil {
		return b, nil
	}

	b, missing := &storedCert{}, 0
	for key, take := range map[string]func([]byte){
		certmagic.StorageKeys.SitePrivateKey(issuer, name): func(d []byte) { b.Key = string(d) },
		certmagic.StorageKeys.SiteCert(issuer, name):       func(d []byte) { b.Certificate = string(d) },
		certmagic.StorageKeys.SiteMeta(issuer, name):       func(d []byte) { b.Metadata = d },
	} {
		data, err := v.backend.Load(ctx, v.place(key))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing++
		case err != nil:
			return nil, err
		case storage.Encrypted(data):
			return nil, fmt.Errorf("reading %s: %w", key, storage.ErrEncrypted)
		default:
			take(data)
		}
	}

	if missing == 3 {
		return nil, &fs.PathError{Op: "loading", Path: v.place(dir), Err: fs.ErrNotExist}
	}

	return b, nil
}

// resource is a storedCert in certmagic's form.
func (v *atomicStore) resource(ctx context.Context, issuer, name string) (certmagic.CertificateResource, error) {
	b, err := v.storedCert(ctx, issuer, name)
	if err != nil {
		return certmagic.CertificateResource{}, err
	}
	return certmagic.CertificateResource{SANs: []string{name}, CertificatePEM: []byte(b.Certificate), PrivateKeyPEM: []byte(b.Key)}, nil
}

// quarantine moves what cannot be used out of the way, and keeps it for whoever wants to know why.
func (v *atomicStore) quarantine(ctx context.Context, issuer, name, why string) error {
	dir := v.place(certmagic.StorageKeys.CertsSitePrefix(issuer, name))
	keys, err := v.backend.List(ctx, dir, true)
	if err != nil {
		return err
	}

	aside := fmt.Sprintf("%s%s-%s/", quarantineFolder, time.Now().UTC().Format("20060102T150405.000"), why)
	for _, key := range keys {
		// Copied before anything is deleted, so that a failure loses nothing.
		data, err := v.backend.Load(ctx, key)
		if err == nil {
			err = v.backend.Store(ctx, aside+key, data)
		}
		if err != nil {
			return fmt.Errorf("setting aside %s: %w", key, err)
		}
	}

	return v.backend.Delete(ctx, dir)
}

// errUnusable is a stored certificate that cannot be served.
var errUnusable = errors.New("cannot be used")

// open makes a pair of a storedCert, if it is one for this name.
func (b *storedCert) open(name string) (*Pair, error) {
	pair, err := pemfile.Pair("the certificate", []byte(b.Certificate), "the key", []byte(b.Key))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnusable, err)
	}
	if err := certifies(pair.Leaf, name); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnusable, err)
	}

	p := &Pair{Certificate: &pair}
	var metadata struct {
		IssuerData acme.Certificate `json:"issuer_data"`
	}
	if err := json.Unmarshal(b.Metadata, &metadata); err != nil {
		// The pair can be served. Only renewal needs the metadata.
		return p, errMetadata
	}

	p.ca = metadata.IssuerData.CA
	if ari := metadata.IssuerData.RenewalInfo; ari != nil {
		p.ari = *ari
	}

	return p, nil
}

// errMetadata comes with a pair that can be served, though what certmagic keeps beside it is damaged.
var errMetadata = errors.New("the metadata is damaged")

func certifies(leaf *x509.Certificate, name string) error {
	if strings.HasPrefix(name, "*.") {
		for _, n := range leaf.DNSNames {
			if n == name {
				return nil
			}
		}
		return fmt.Errorf("it is not for %s", name)
	}
	if net.ParseIP(name) != nil {
		// VerifyHostname takes an address only in brackets.
		name = "[" + name + "]"
	}
	return leaf.VerifyHostname(name)
}

// load finds the newest certificate of a name from any issuer. What cannot be used is quarantined, so that it can be
// ordered afresh.
func (c *Client) load(ctx context.Context, name, kind string, have *Pair) (*Pair, error) {
	v := c.atomicStore(kind)
	// Take the generation before looking: what is found then was not lost together with the storage.
	generation, _ := c.generation(ctx, generationAge)
	var newest *Pair
	// All issuers are looked at: the configuration may have changed its preferred one since.
	for _, issuer := range c.front.Issuers {
		pair, err := c.loadFrom(ctx, v, issuer.IssuerKey(), name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}

		if newest == nil || pair.Leaf.NotBefore.After(newest.Leaf.NotBefore) {
			newest = pair
		}
	}

	if newest == nil {
		return nil, &fs.PathError{Op: "loading", Path: name, Err: fs.ErrNotExist}
	}

	newest.Kind = kind
	// Keep the pair that is held: it carries what was learned about it, such as its OCSP response.
	if have != nil && have.Leaf.Equal(newest.Leaf) {
		kept := *have
		if !newest.ari.SelectedTime.IsZero() {
			kept.ari = newest.ari
		}
		newest = &kept
	}

	newest.generation = generation
	newest.Renewal = c.renewal(name, newest)
	return newest, nil
}

func (c *Client) loadFrom(ctx context.Context, v *atomicStore, issuer, name string) (*Pair, error) {
	var err error
	// Another node may be between two of its writes, so one look that does not fit proves nothing.
	for range 3 {
		var b *storedCert
		if b, err = v.storedCert(ctx, issuer, name); err != nil {
			return nil, err
		}

		var pair *Pair
		pair, err = b.open(name)
		if pair != nil {
			pair.Issuer = issuer
		}
		if errors.Is(err, errMetadata) {
			return pair, c.mendMetadata(ctx, v, issuer, name)
		}
		if err == nil {
			return pair, nil
		}

		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		// A writer needs a few milliseconds between its values.
		case <-time.After(50 * time.Millisecond):
		}
	}

	c.log.Warn("a stored certificate cannot be used, and is set aside; another is ordered", "name", name, "issuer", issuer, "storage", v.String(), "error", err)
	if err := v.quarantine(ctx, issuer, name, "unusable"); err != nil {
		return nil, err
	}
	return nil, &fs.PathError{Op: "loading", Path: name, Err: fs.ErrNotExist}
}

// mendMetadata writes what certmagic needs to renew.
func (c *Client) mendMetadata(ctx context.Context, v *atomicStore, issuer, name string) error {
	c.log.Warn("a stored certificate's metadata is damaged, and is written anew", "name", name, "issuer", issuer)
	data, err := json.Marshal(certmagic.CertificateResource{SANs: []string{name}, IssuerData: json.RawMessage("{}")})
	if err != nil {
		return err
	}
	return v.backend.Store(ctx, v.place(certmagic.StorageKeys.SiteMeta(issuer, name)), data)
}

// mendAccounts quarantines accounts that cannot be read, which certmagic would stumble over for good. It registers
// another.
func (c *Client) mendAccounts(ctx context.Context) error {
	for _, issuer := range c.front.Issuers {
		prefix := "acme/" + certmagic.StorageKeys.Safe(issuer.IssuerKey()) + "/users"
		keys, err := c.o.Store.List(ctx, prefix, true)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}

		for _, key := range keys {
			data, err := c.o.Store.Load(ctx, key)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			sound := path.Ext(key) == ".json" && json.Valid(data)
			if path.Ext(key) == ".key" {
				_, bad := pemfile.Key(key, data)
				sound = bad == nil
			}

			if sound || err != nil {
				continue
			}

			// An account under another key is not damaged, and must not be replaced.
			if storage.Encrypted(data) {
				return fmt.Errorf("reading %s: %w", key, storage.ErrEncrypted)
			}

			c.log.Warn("a stored ACME account cannot be used, and is set aside; another is registered", "key", key)
			aside := fmt.Sprintf("%s%s-account/", quarantineFolder, time.Now().UTC().Format("20060102T150405.000"))
			if err := errors.Join(c.o.Store.Store(ctx, aside+key, data), c.o.Store.Delete(ctx, path.Dir(key))); err != nil {
				return err
			}
		}
	}
	return nil
}
