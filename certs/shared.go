package certs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"padlock/certs/storage"
)

// SharedKey is a random key that all nodes of a storage share, and that stays the same after a restart. The first who
// asks makes it. The purpose is a name such as sticky: keys for different purposes have nothing to do with each
// other.
func SharedKey(ctx context.Context, store storage.Store, purpose string) (key [32]byte, err error) {
	return sharedKey(ctx, store, purpose, nil)
}

// sharedKey stores a key that is known already, where there is none.
func sharedKey(ctx context.Context, store storage.Store, purpose string, known *[32]byte) (key [32]byte, err error) {
	name, lock := "secrets/"+purpose, "secret-"+purpose
	if key, err = loadShared(ctx, store, name); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}

	if err := store.Lock(ctx, lock); err != nil {
		return key, err
	}
	defer func() { _ = store.Unlock(context.WithoutCancel(ctx), lock) }()
	if key, err = loadShared(ctx, store, name); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}

	if known != nil {
		key = *known
	} else {
		_, _ = rand.Read(key[:]) // never fails
	}

	return key, store.StoreFenced(ctx, lock, name, key[:])
}

func loadShared(ctx context.Context, store storage.Store, name string) (key [32]byte, err error) {
	data, err := store.Load(ctx, name)
	switch {
	case err != nil:
		return key, err
	case storage.Encrypted(data):
		return key, storage.ErrEncrypted
	case len(data) != len(key):
		return key, fmt.Errorf("%s has %d bytes instead of %d, and is made anew: %w", name, len(data), len(key), fs.ErrNotExist)
	}
	return [32]byte(data), nil
}

// KeepSharedKey hands over a shared key, and looks after it until ctx ends: one that the storage has lost is stored
// again, and one that other nodes have agreed on since is handed over. While the storage is away it tries again.
func KeepSharedKey(ctx context.Context, store storage.Store, purpose string, apply func([32]byte), log *slog.Logger) {
	var known *[32]byte
	for logged := false; ; {
		attempt, cancel := context.WithTimeout(ctx, 30*time.Second)
		key, err := sharedKey(attempt, store, purpose, known)
		cancel()
		wait := sharedLook
		switch {
		case err == nil:
			if known == nil || *known != key {
				apply(key)
			}
			known = &key
		case known == nil:
			wait = ticketRetry
			if !logged && ctx.Err() == nil {
				logged = true
				log.Warn("a key that nodes share cannot be read; until it can, this node uses one of its own", "purpose", purpose, "error", err)
			}
		}

		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

const sharedLook = time.Minute // between looks at a key that is known
