package storage

import (
	"context"
	"errors"
)

func leasesOf(s Store) *leases {
	switch s := Raw(s).(type) {
	case *redisStore:
		return s.leases
	case *postgresStore:
		return s.leases
	}
	return nil
}

// StopRenewing lets a lease of a service run out, as it does for a process that is frozen.
func StopRenewing(s Store, name string) {
	l := leasesOf(s)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name].stop()
}

// Token is a lease's own.
func Token(s Store, name string) int64 { return leasesOf(s).token(name) }

// Acquire writes a lease into the service.
func Acquire(ctx context.Context, s Store, name string, token int64) error {
	ok, err := leasesOf(s).acquire(ctx, name, token)
	if err == nil && !ok {
		err = errors.New("somebody has it")
	}
	return err
}

// Raw is what lies below the encryption, as whoever can write to the place has it.
func Raw(s Store) Store {
	switch s := s.(type) {
	case *encrypted:
		return s.backend
	case *plain:
		return s.backend
	}
	return s
}
