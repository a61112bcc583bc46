// Package storage keeps certificates, keys, accounts, challenge tokens and locks where several padlocks find them:
// in a directory, in Redis or in PostgreSQL.
//
//	store, err := storage.Open(ctx, "redis://cache:6379/0", storage.Options{Log: log})
//	defer store.Close()
//
// All of them are a certmagic.Storage, and are held to one conformance suite.
package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/caddyserver/certmagic"

	"padlock/internal/mask"
	"padlock/internal/regular"
)

// Store is a certmagic.Storage that knows whether its locks are still its own. Keys are paths of slash-separated
// names; those with "..", ".", an empty name, a backslash or a control character in them are refused, and so are
// places that are not for values (localca/, locks/). What is missing is fs.ErrNotExist; a store that cannot be
// reached is an error that wraps ErrUnavailable. Calls end with their context. A Store is safe for use from many
// goroutines and, by its locks, from many processes.
type Store interface {
	certmagic.Storage
	certmagic.TryLocker
	// StoreFenced is Store for the holder of a lock: if the lock has passed to somebody else meanwhile, as its holder
	// was frozen for longer than the lease, nothing is written and the error is ErrLockLost.
	StoreFenced(ctx context.Context, lock, key string, value []byte) error
	// String names the place, without passwords.
	String() string
	// Close releases what the store holds, locks included.
	Close() error
}

// Errors of every Store.
var (
	ErrUnavailable = errors.New("the storage cannot be reached")
	ErrLockLost    = errors.New("the lock has passed to another process")
	// In one value's place; the others are not concerned.
	ErrUnusable = errors.New("there is something that is no value of a storage")
)

// Options of Open.
type Options struct {
	// 32 bytes that every value is encrypted and authenticated with (AES-256-GCM); nil: values are stored as they are.
	Key []byte
	// Of a lock in a service: it passes to the next when its holder has not renewed it for so long; 15 s.
	Lease time.Duration
	Log   *slog.Logger

	// MaxValue bounds what is loaded, in bytes; 16 MiB. Whoever can write to the storage would else fill the memory of
	// every node. Values that padlock stores have some KiB.
	MaxValue int64
}

// Open opens a directory, a redis:// or rediss:// URL, or a postgres:// URL.
func Open(ctx context.Context, location string, o Options) (Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Lease == 0 {
		o.Lease = 15 * time.Second
	}

	var store Store
	var err error
	switch scheme, _, remote := strings.Cut(location, "://"); {
	case !remote:
		if store, err = OpenDirectory(location, o); regular.Unwritable(err) {
			o.Log.Warn("the storage directory cannot be made; padlock tries again when it needs it", "storage", location, "error", err)
			store, err = &later{path: location, o: o}, nil
		}
	case scheme == "redis" || scheme == "rediss":
		store, err = openRedis(location, o)
	case scheme == "postgres" || scheme == "postgresql":
		store, err = openPostgres(ctx, location, o)
	default:
		return nil, fmt.Errorf("storage %q: must be a directory, redis://…, rediss://… or postgres://…", Redacted(location))
	}

	if err != nil {
		return nil, fmt.Errorf("opening the storage %s: %w", Redacted(location), err)
	}

	if o.Key == nil {
		return &plain{backend: store, log: o.Log}, nil
	}

	sealing, err := encrypt(store, o.Key, o.Log)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}

	return sealing, nil
}

// IsRemote reports whether a location is a service that other machines may share, rather than a directory.
func IsRemote(location string) bool { return strings.Contains(location, "://") }

// Redacted is a location without its secrets.
func Redacted(location string) string { return mask.URL(location) }

func (o *Options) maxValue() int64 { return cmp.Or(o.MaxValue, 16<<20) }

func tooLarge(key string, size, limit int64) error {
	return fmt.Errorf("loading %s: %w: it has %d bytes, and a value has %d at most", key, ErrUnusable, size, limit)
}

// maxKey bounds a key, as file names and PostgreSQL's index do.
const maxKey = 1024

// ours are the first names of what padlock keeps beside the values in a directory of this machine: the local CA, the
// locks, the admin endpoint's socket. No value has such a name, in any kind of store, so that none can be carried
// there.
var ours = []string{"localca", lockDirectory, "admin.sock"}

// ValidKey is what every Store asks of a key before it does anything with it. It refuses keys that could mean another
// place than they say, or one that is not for values. A key is what fs.ValidPath takes but ".", without backslashes,
// which separate elsewhere, and without control characters.
func ValidKey(key string) error {
	first, _, _ := strings.Cut(key, "/")
	// Some file systems ignore case.
	if slices.ContainsFunc(ours, func(name string) bool { return strings.EqualFold(name, first) }) {
		return fmt.Errorf("storage: %q is not for values", key)
	}
	return validName(key)
}

// validName is ValidKey for locks, which lie in a place of their own.
func validName(name string) error {
	odd := func(r rune) bool { return r == '\\' || unicode.IsControl(r) }

	switch {
	case !fs.ValidPath(name), name == ".", len(name) > maxKey, strings.ContainsFunc(name, odd):
	case !filepath.IsLocal(filepath.FromSlash(name)):
		// The operating system reserves some names, for example NUL on Windows.
	case strings.Contains("/"+name, "/"+temporary):
		// A directory does not list temporary files, so a key of that form would be lost.
	default:
		return nil
	}
	return fmt.Errorf("storage: %q is not a key", name)
}

// strangers logs names in a storage that no value has, or that stand for something else than a value. Somebody
// else has put them there: listings leave them out, as one of them must not take the others away.
type strangers struct {
	log *slog.Logger

	mu     sync.Mutex
	logged map[string]bool
}

const maxLogged = 100 // names, as whoever can write to the storage could make up any number

// is reports whether a key is none, or is wrong for the reason given, and logs it the first time.
func (s *strangers) is(key string, why error) bool {
	if why == nil {
		why = ValidKey(key)
	}
	if why == nil {
		return false
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if !s.logged[key] && len(s.logged) < maxLogged {
		if s.logged == nil {
			s.logged = map[string]bool{}
		}
		s.logged[key] = true
		s.log.Warn("something in the storage is left out, as it is no value: somebody else has put it there",
			"name", key, "reason", why, "remedy", "remove it, and find out who can write to the storage")
	}

	return true
}

// without are the keys that can be values.
func (s *strangers) without(keys []string) []string {
	return slices.DeleteFunc(keys, func(key string) bool { return s.is(key, nil) })
}

// children turns the keys below a prefix into what List returns: all of them, or the first level, directories once.
func children(prefix string, keys []string, recursive bool) []string {
	if recursive {
		return keys
	}
	var level []string
	for _, key := range keys {
		rest := key
		if prefix != "" {
			rest = strings.TrimPrefix(key, prefix+"/")
		}
		first, _, _ := strings.Cut(rest, "/")
		if prefix != "" {
			first = prefix + "/" + first
		}
		// Keys come sorted, so repetitions stand next to each other.
		if len(level) == 0 || level[len(level)-1] != first {
			level = append(level, first)
		}
	}

	return level
}
