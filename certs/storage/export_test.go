package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/redis/go-redis/v9"
)

func leasesOf(s Store) *leases {
	switch s := Raw(s).(type) {
	case *redisStore:
		return s.leases
	case *postgresStore:
		return s.leases
	case *Directory:
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

// Plant has a name in the listing of a service that no key is; WrongType has a string of Redis in a value's place.
func Plant(ctx context.Context, s Store, name string) error {
	switch s := Raw(s).(type) {
	case *redisStore:
		return s.client.ZAdd(ctx, s.index(), redis.Z{Member: name}).Err()
	case *postgresStore:
		_, err := s.pool.Exec(ctx, `INSERT INTO padlock_values (name, data, modified) VALUES ($1, 'x', now())`, name)
		return err
	case *Directory:
		return os.WriteFile(filepath.Join(s.path, name), nil, 0o600)
	}
	return errors.ErrUnsupported
}

// WrongType reports whether there is such a thing in a kind of Store.
func WrongType(ctx context.Context, s Store, key string) (bool, error) {
	r, ok := Raw(s).(*redisStore)
	if !ok {
		return false, nil
	}
	return true, errors.Join(r.client.Del(ctx, r.value(key)).Err(), r.client.Set(ctx, r.value(key), "planted", 0).Err(), r.client.ZAdd(ctx, r.index(), redis.Z{Member: key}).Err())
}

// QuarantinedOutside counts what Redis holds set aside as no value.
func QuarantinedOutside(ctx context.Context, s Store) (int, error) {
	r := Raw(s).(*redisStore)
	keys, err := r.client.Keys(ctx, r.prefix+"set-aside:*").Result()
	return len(keys), err
}
