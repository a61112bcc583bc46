package storage

import (
	"context"
	"fmt"
	"sync"

	"github.com/caddyserver/certmagic"
)

// later is a Directory that cannot be made yet, as the disk is full or cannot be written to. Every call tries again;
// until one succeeds, it is as a service that is away.
type later struct {
	path string
	o    Options

	mu   sync.Mutex
	made *Directory
}

func (l *later) directory() (*Directory, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made != nil {
		return l.made, nil
	}
	d, err := OpenDirectory(l.path, l.o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l.made = d
	l.o.Log.Info("the storage directory can be used now", "storage", l.path)
	return d, nil
}

// String implements Store.
func (l *later) String() string { return l.path }

// Close implements Store.
func (l *later) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made == nil {
		return nil
	}
	return l.made.Close()
}

// Store implements certmagic.Storage.
func (l *later) Store(ctx context.Context, key string, value []byte) error {
	d, err := l.directory()
	if err != nil {
		return err
	}
	return d.Store(ctx, key, value)
}

// StoreFenced implements Store.
func (l *later) StoreFenced(ctx context.Context, lock, key string, value []byte) error {
	d, err := l.directory()
	if err != nil {
		return err
	}
	return d.StoreFenced(ctx, lock, key, value)
}

// Load implements certmagic.Storage.
func (l *later) Load(ctx context.Context, key string) ([]byte, error) {
	d, err := l.directory()
	if err != nil {
		return nil, err
	}
	return d.Load(ctx, key)
}

// Delete implements certmagic.Storage.
func (l *later) Delete(ctx context.Context, key string) error {
	d, err := l.directory()
	if err != nil {
		return err
	}
	return d.Delete(ctx, key)
}

// Exists implements certmagic.Storage.
func (l *later) Exists(ctx context.Context, key string) bool {
	d, err := l.directory()
	return err == nil && d.Exists(ctx, key)
}

// List implements certmagic.Storage.
func (l *later) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	d, err := l.directory()
	if err != nil {
		return nil, err
	}
	return d.List(ctx, prefix, recursive)
}

// Stat implements certmagic.Storage.
func (l *later) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	d, err := l.directory()
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	return d.Stat(ctx, key)
}

// Lock implements certmagic.Storage.
func (l *later) Lock(ctx context.Context, name string) error {
	d, err := l.directory()
	if err != nil {
		return err
	}
	return d.Lock(ctx, name)
}

// TryLock implements certmagic.TryLocker.
func (l *later) TryLock(ctx context.Context, name string) (bool, error) {
	d, err := l.directory()
	if err != nil {
		return false, err
	}
	return d.TryLock(ctx, name)
}

// Unlock implements certmagic.Storage.
func (l *later) Unlock(ctx context.Context, name string) error {
	d, err := l.directory()
	if err != nil {
		return err
	}
	return d.Unlock(ctx, name)
}
