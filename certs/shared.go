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

// SharedKey is a random key that all nodes of a storage share, and that stays the same after a restart. The first who asks makes it.
// The purpose is a name such as sticky: keys for different purposes have nothing to do with each other.
func SharedKey(ctx context.Context, store storage.Store, purpose string) (key [32]byte, err error) {
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
	_, _ = rand.Read(key[:]) // never fails
	return key, store.StoreFenced(ctx, lock, name, key[:])
}

func loadShared(ctx context.Context, store storage.Store, name string) (key [32]byte, err error) {
	data, err := store.Load(ctx, name)
	switch {
	case err != nil:
		return key, err
	case storage.Sealed(data):
		return key, storage.ErrSealed
	case len(data) != len(key):
		return key, fmt.Errorf("%s has %d bytes instead of %d, and is made anew: %w", name, len(data), len(key), fs.ErrNotExist)
	}
	return [32]byte(data), nil
}

// KeepSharedKey hands over a shared key. While the storage is away it tries again, until ctx ends.
func KeepSharedKey(ctx context.Context, store storage.Store, purpose string, apply func([32]byte), log *slog.Logger) {
	for told := false; ; told = true {
		attempt, cancel := context.WithTimeout(ctx, 30*time.Second)
		key, err := SharedKey(attempt, store, purpose)
		cancel()
		if err == nil {
			apply(key)
			return
		}
		if !told && ctx.Err() == nil {
			log.Warn("a key that nodes share cannot be read; until it can, this node uses one of its own", "purpose", purpose, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(ticketRetry):
		}
	}
}
