package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
)

const (
	generationKey  = "secrets/generation"
	generationLock = "generation"
)

// Generation is a random text that a storage has for as long as it keeps its values. One that comes back empty, such
// as Redis without persistence after a restart, has another: what is missing there was lost, and not removed by
// anybody. The first who asks makes it.
func Generation(ctx context.Context, store Store) (string, error) {
	if now, err := loadGeneration(ctx, store); err != nil || now != "" {
		return now, err
	}

	if err := store.Lock(ctx, generationLock); err != nil {
		return "", err
	}
	defer func() { _ = store.Unlock(context.WithoutCancel(ctx), generationLock) }()
	if now, err := loadGeneration(ctx, store); err != nil || now != "" {
		// Another node was faster, and its generation counts.
		return now, err
	}

	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	fresh := hex.EncodeToString(b[:])
	if err := store.StoreFenced(ctx, generationLock, generationKey, []byte(fresh)); err != nil {
		// Without a stored value, the next process to ask would get another generation.
		return "", err
	}

	return fresh, nil
}

// loadGeneration returns "" where there is none, or a damaged one.
func loadGeneration(ctx context.Context, store Store) (string, error) {
	data, err := store.Load(ctx, generationKey)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrUnusable) {
		return "", nil
	}
	if b, bad := hex.DecodeString(string(data)); err != nil || bad != nil || len(b) != 16 {
		return "", err
	}
	return string(data), nil
}
