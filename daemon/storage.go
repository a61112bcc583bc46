package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"padlock/certs"
	"padlock/certs/acme"
	"padlock/certs/acme/dns"
	"padlock/certs/storage"
	"padlock/config"
	"padlock/internal/hint"
)

// storageKey is nil where there is none.
func storageKey(cfg *config.Config) ([]byte, error) {
	if cfg.StorageKey == "" {
		return nil, nil
	}
	key, err := storage.ParseKey(cfg.StorageKey)
	if err != nil {
		return nil, hint.Add(fmt.Errorf("storage_key: %w", err), "openssl rand -base64 32 makes one")
	}
	return key, nil
}

// OpenStore opens the storage of a configuration; the caller closes it.
func OpenStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (storage.Store, error) {
	key, err := storageKey(cfg)
	if err != nil {
		return nil, err
	}
	store, err := storage.Open(ctx, cfg.Storage, storage.Options{Key: key, Log: log})
	if err != nil {
		return nil, forOwner(cfg, hint.Add(err, "choose another --storage, or mend this one"))
	}
	return store, nil
}

// CheckStore refuses a storage that does not agree with storage_key. One that is away is looked at again when it is
// used.
func CheckStore(ctx context.Context, cfg *config.Config, store storage.Store) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return storageError(cfg.Storage, storage.Check(ctx, store))
}

const checkTimeout = 5 * time.Second

// storageError is nil but for a storage that does not agree with storage_key.
func storageError(place string, err error) error {
	wrap := func(remedy string) error {
		return hint.Add(fmt.Errorf("the storage %s: %w", storage.Redacted(place), err), remedy)
	}

	switch {
	case errors.Is(err, storage.ErrMixed):
		return wrap("if an earlier padlock has left that value in the clear, encrypt it once: padlock certs encrypt, with the same --config, or --storage and --storage-key; " +
			"if not, somebody else has put it there: remove it, and find out who can write to the storage")
	case errors.Is(err, storage.ErrPlain):
		return wrap("if you trust what it holds, encrypt it once: padlock certs encrypt, with the same --config, or --storage and --storage-key")
	case errors.Is(err, storage.ErrMarker):
		return wrap("if this is the right storage_key, write it again: padlock certs encrypt, with the same --config, or --storage and --storage-key")
	case errors.Is(err, storage.ErrEncrypted):
		return wrap("give the storage_key (--storage-key) that it was encrypted with")
	}
	return nil
}

// newClient returns nil with an error, and not an interface that holds a nil client.
func newClient(o acme.Options) (certs.Client, error) {
	if o.Config.Client == "autocert" {
		client, err := acme.NewAutocert(o)
		if err != nil {
			return nil, err
		}
		return client, nil
	}
	client, err := NewACME(o)
	if err != nil {
		return nil, err
	}
	return client, nil
}

// NewACME is a client of certmagic, whose orders can be commanded.
func NewACME(o acme.Options) (*acme.Client, error) {
	client, err := acme.New(o)
	return client, dnsHint(err)
}

// dnsHint says where the settings of DNS providers are described.
func dnsHint(err error) error {
	if errors.Is(err, dns.ErrSettings) {
		return hint.Add(err, "set the provider's environment variables, for padlock check too: docs/certificates.md lists them")
	}
	return err
}
