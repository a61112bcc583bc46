package acme

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"

	"padlock/certs/storage"
	"padlock/config"
	"padlock/internal/pemfile"
)

// Stored is a certificate in a storage. Err says why it cannot be used; Pair is nil then.
type Stored struct {
	Name string
	Pair *Pair
	Err  error

	keys []string // of its values
}

// area of each key type's certificates.
func areaOf(kind string) string {
	if kind == "p256" {
		return area
	}
	return strings.TrimSuffix(area, "/") + "-" + kind + "/"
}

// List reads what a storage holds for one name, or for every name when it is "", sorted by name. Ratio is of renewals.
func List(ctx context.Context, store storage.Store, name string, ratio float64) ([]Stored, error) {
	var all []Stored
	for _, kind := range config.KeyTypes {
		v := newAtomicStore(store, kind)
		issuers, err := folders(ctx, store, strings.TrimSuffix(v.area, "/"))
		if err != nil {
			return nil, err
		}

		for _, issuer := range issuers {
			sites := []string{v.area + issuer + "/" + certmagic.StorageKeys.Safe(name)}
			if name == "" {
				if sites, err = store.List(ctx, v.area+issuer, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return nil, err
				}
			}

			for _, site := range sites {
				found, err := v.stored(ctx, issuer, path.Base(site), kind, ratio)
				// A padlock that runs may have removed it since the list was made.
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					return nil, err
				}
				all = append(all, found)
			}
		}
	}

	more, err := listAutocert(ctx, store, name)
	if err != nil {
		return nil, err
	}
	all = append(all, more...)
	slices.SortStableFunc(all, func(a, b Stored) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// folders are the names one level below a prefix.
func folders(ctx context.Context, store storage.Store, prefix string) ([]string, error) {
	keys, err := store.List(ctx, prefix, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for i, key := range keys {
		keys[i] = path.Base(key)
	}
	return keys, err
}

func (v *atomicStore) stored(ctx context.Context, issuer, site, kind string, ratio float64) (Stored, error) {
	name := strings.Replace(site, "wildcard_", "*", 1)
	s := Stored{Name: name, keys: []string{v.area + issuer + "/" + site}}
	b, err := v.storedCert(ctx, issuer, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil:
		return s, err
	case err != nil:
		s.Err = err
		return s, nil
	}

	if leaf := b.leaf(); leaf != nil && len(leaf.IPAddresses) > 0 && len(leaf.DNSNames) == 0 {
		// Names in the storage have no colons, so an IPv6 address is taken from the certificate.
		s.Name = leaf.IPAddresses[0].String()
	}

	pair, err := b.open(s.Name)
	if pair == nil {
		s.Err = err
		return s, nil
	}

	pair.Kind, pair.Issuer = kind, issuer
	pair.Renewal = renewal(s.Name, pair, ratio)
	s.Pair = pair
	return s, nil
}

// leaf is nil if it does not parse.
func (b *storedCert) leaf() *x509.Certificate {
	chain, err := pemfile.Certificates("", []byte(b.Certificate))
	if err != nil {
		return nil
	}
	return chain[0]
}

func listAutocert(ctx context.Context, store storage.Store, name string) ([]Stored, error) {
	var all []Stored
	places, err := folders(ctx, store, strings.TrimSuffix(autocertArea, "/"))
	if err != nil {
		return nil, err
	}

	for _, place := range places {
		keys, err := store.List(ctx, autocertArea+place, false)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}

		for _, key := range keys {
			if base := path.Base(key); !isName(base) || name != "" && name != base {
				continue
			}

			data, err := store.Load(ctx, key)
			if err != nil {
				continue // removed meanwhile
			}

			s := Stored{Name: path.Base(key), keys: []string{key}}
			pair, err := pemfile.Pair("", data, "", data)
			if s.Err = err; err == nil {
				s.Pair = &Pair{Certificate: &pair, Kind: "p256", Issuer: place}
				s.Pair.Renewal = autocertRenewal(pair.Leaf)
			}

			all = append(all, s)
		}
	}

	return all, nil
}

// Remove deletes what was found in a storage.
func (s *Stored) Remove(ctx context.Context, store storage.Store) error {
	for _, key := range s.keys {
		if err := store.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
