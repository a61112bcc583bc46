package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"time"

	"padlock/internal/pemfile"

	"github.com/caddyserver/certmagic"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgresStore is a Store in PostgreSQL, in two tables that it makes. Locks are rows with an end, not advisory
// locks, which would need a connection each and are lost behind a pooler.
type postgresStore struct {
	*leases
	pool *pgxpool.Pool
	name string
	role string
	odd  strangers

	maxValue int64 // bytes

	mu       sync.Mutex
	migrated bool
}

const (
	postgresTimeout = 5 * time.Second
	postgresVersion = 1
)

// Each element brings the tables from the version of its index to the next. Names are compared byte by byte (COLLATE
// "C"), so that a directory is a range of them.
var postgresMigrations = [postgresVersion]string{`
CREATE TABLE padlock_values (
	name text COLLATE "C" PRIMARY KEY,
	data bytea NOT NULL,
	modified timestamptz NOT NULL DEFAULT now());
CREATE SEQUENCE padlock_fence; -- of versions that counted tokens
CREATE TABLE padlock_locks (
	name text COLLATE "C" PRIMARY KEY,
	token bigint NOT NULL,
	ends timestamptz NOT NULL);`}

func openPostgres(ctx context.Context, location string, o Options) (*postgresStore, error) {
	if err := postgresTrust(location); err != nil {
		return nil, err
	}

	cfg, err := pgxpool.ParseConfig(location)
	if err != nil {
		// pgx's error may repeat parts of it.
		return nil, errors.New("not a URL such as postgres://user:password@host:5432/database?sslmode=verify-full")
	}

	// Managed databases allow a few dozen connections for all nodes together.
	cfg.MaxConns = 8
	cfg.ConnConfig.ConnectTimeout = postgresTimeout
	cfg.ConnConfig.RuntimeParams["application_name"] = "padlock"
	// This mode works behind a connection pooler too, which gives each statement another connection.
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}

	s := &postgresStore{pool: pool, name: Redacted(location), role: cfg.ConnConfig.User, odd: strangers{log: o.Log}, maxValue: o.maxValue()}
	s.leases = newLeases(s, o)
	return s, nil
}

// postgresTrust checks the files of CAs and certificates that the location names, of which pgx would pass over what
// it cannot read.
func postgresTrust(location string) error {
	u, err := url.Parse(location)
	if err != nil {
		return nil // which pgx refuses, too
	}
	query := u.Query()
	if ca := query.Get("sslrootcert"); ca != "" && ca != "system" {
		if _, err := pemfile.LoadPool(ca); err != nil {
			return fmt.Errorf("sslrootcert: %w", err)
		}
	}

	if cert, key := query.Get("sslcert"), query.Get("sslkey"); cert != "" && key != "" && query.Get("sslpassword") == "" {
		if _, err := pemfile.LoadPair(cert, key); err != nil {
			return fmt.Errorf("sslcert: %w", err)
		}
	}

	return nil
}

// ready looks for the tables when the server is first reached, which may be after the start, and makes those that are
// missing. Where none is, it needs no more than the right to read: to make what is there fails without the right to
// make it, even with IF NOT EXISTS.
func (s *postgresStore) ready(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.migrated {
		return nil
	}

	version, err := postgresVersionOf(ctx, s.pool)
	var answer *pgconn.PgError
	// A new database has no table of versions either.
	if errors.As(err, &answer) && answer.Code == undefinedTable {
		err = nil
	}
	if err == nil && version < postgresVersion {
		err = s.migrate(ctx)
	}

	s.migrated = err == nil
	return err
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// postgresVersionOf is that of the tables, 0 where they are still to be made.
func postgresVersionOf(ctx context.Context, from querier) (version int, err error) {
	err = from.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM padlock_version`).Scan(&version)
	if err == nil && version > postgresVersion {
		err = fmt.Errorf("the tables are of a newer padlock (version %d; this one knows %d)", version, postgresVersion)
	}
	return version, err
}

// migrate makes what is missing of the tables.
func (s *postgresStore) migrate(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// One at a time: two CREATE TABLE IF NOT EXISTS at once may fail.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(7020654911)`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS padlock_version (version int NOT NULL)`); err != nil {
			return err
		}

		version, err := postgresVersionOf(ctx, tx)
		if err != nil {
			return err
		}

		for ; version < postgresVersion; version++ {
			if _, err := tx.Exec(ctx, postgresMigrations[version]); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO padlock_version VALUES ($1)`, version+1); err != nil {
				return err
			}
		}

		return nil
	})

	var answer *pgconn.PgError
	if errors.As(err, &answer) && answer.Code == insufficientPrivilege {
		return fmt.Errorf("its tables are still to be made (%w): start padlock once as a role that may, or let this one: GRANT CREATE ON SCHEMA public TO %s",
			err, pgx.Identifier{s.role}.Sanitize())
	}

	return err
}

// PostgreSQL's codes (its manual, appendix A).
const (
	undefinedTable        = "42P01"
	insufficientPrivilege = "42501"
	readOnlyTransaction   = "25006"
)

// refused says what a role needs that PostgreSQL has refused something.
func (s *postgresStore) refused(err error) error {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return err
	}

	role := pgx.Identifier{s.role}.Sanitize()
	switch {
	case strings.Contains(err.Error(), "GRANT"): // it has been said
	case answer.Code == insufficientPrivilege:
		return fmt.Errorf("%w: have the owner of the tables allow it: GRANT SELECT, INSERT, UPDATE, DELETE ON padlock_values, padlock_locks TO %s; GRANT SELECT ON padlock_version TO %s", err, role, role)
	case answer.Code == readOnlyTransaction:
		return fmt.Errorf("%w: the session or its server is read-only; target_session_attrs=read-write in the URL finds the server that is not", err)
	}

	return err
}

func (s *postgresStore) String() string { return s.name }

func (s *postgresStore) Close() error {
	err := s.releaseAll()
	s.pool.Close()
	return err
}

// do runs one query with the tables in place, within a time.
func (s *postgresStore) do(ctx context.Context, action, key string, query func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, postgresTimeout)
	defer cancel()
	// The tables are looked for with the first query, as the server may have been away at the start.
	err := s.ready(bounded)
	if err == nil {
		err = query(bounded)
	}

	var answer *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return &fs.PathError{Op: action, Path: key, Err: fs.ErrNotExist}
	// The caller's end is no fault of the server.
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &answer) && !unavailable(answer.Code):
		return fmt.Errorf("%s %s: %w", action, key, s.refused(err))
	case errors.Is(err, ErrLockLost):
		return fmt.Errorf("%s %s: %w", action, key, err)
	}

	return fmt.Errorf("%s %s: %w: %w", action, key, ErrUnavailable, err)
}

// unavailable are PostgreSQL's classes for a server that is starting, stopping or out of something.
func unavailable(code string) bool {
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57P")
}

const postgresUpsert = `INSERT INTO padlock_values (name, data) %s
	ON CONFLICT (name) DO UPDATE SET data = excluded.data, modified = now()`

// notNull is an empty value where nil would be SQL's NULL.
func notNull(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// Store implements certmagic.Storage.
func (s *postgresStore) Store(ctx context.Context, key string, value []byte) error {
	if err := ValidKey(key); err != nil {
		return err
	}
	return s.do(ctx, "storing", key, func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, fmt.Sprintf(postgresUpsert, `VALUES ($1, $2)`), key, notNull(value))
		return err
	})
}

// StoreFenced implements Store: the lock's row is held while the value is written.
func (s *postgresStore) StoreFenced(ctx context.Context, lock, key string, value []byte) error {
	if err := ValidKey(key); err != nil {
		return err
	}
	return s.do(ctx, "storing", key, func(ctx context.Context) error {
		// FOR SHARE keeps the lock's row until the value is written, so that nobody takes the lock over in between.
		tag, err := s.pool.Exec(ctx, fmt.Sprintf(postgresUpsert, `SELECT $1, $2::bytea FROM (SELECT 1 FROM padlock_locks
			WHERE name = $3 AND token = $4 AND ends > now() FOR SHARE) AS held`), key, notNull(value), lock, s.token(lock))
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrLockLost
		}
		return err
	})
}

// Load implements certmagic.Storage.
func (s *postgresStore) Load(ctx context.Context, key string) (value []byte, err error) {
	if err := ValidKey(key); err != nil {
		return nil, err
	}
	size := int64(0)
	err = s.do(ctx, "loading", key, func(ctx context.Context) error {
		// The length decides in the same statement, so that a value that is too large never reaches us.
		return s.pool.QueryRow(ctx, `SELECT length(data), CASE WHEN length(data) <= $2 THEN data END FROM padlock_values WHERE name = $1`, key, s.maxValue).Scan(&size, &value)
	})
	if err == nil && size > s.maxValue {
		err = tooLarge(key, size, s.maxValue)
	}
	return value, err
}

// below is the condition for names in a directory: from prefix/ to what follows it, as 0 follows / in ASCII.
func below(prefix string) (from, to string) { return prefix + "/", prefix + "0" }

// Delete implements certmagic.Storage.
func (s *postgresStore) Delete(ctx context.Context, key string) error {
	if err := ValidKey(key); err != nil {
		return err
	}
	from, to := below(key)
	return s.do(ctx, "deleting", key, func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, `DELETE FROM padlock_values WHERE name = $1 OR name >= $2 AND name < $3`, key, from, to)
		return err
	})
}

// Exists implements certmagic.Storage.
func (s *postgresStore) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// Stat implements certmagic.Storage.
func (s *postgresStore) Stat(ctx context.Context, key string) (info certmagic.KeyInfo, err error) {
	if err := ValidKey(key); err != nil {
		return info, err
	}

	from, to := below(key)
	err = s.do(ctx, "looking for", key, func(ctx context.Context) error {
		// The name itself sorts before all that is below it, so the first row says whether it is a value or a directory.
		row := s.pool.QueryRow(ctx, `SELECT name = $1, modified, length(data) FROM padlock_values
			WHERE name = $1 OR name >= $2 AND name < $3 ORDER BY name LIMIT 1`, key, from, to)
		return row.Scan(&info.IsTerminal, &info.Modified, &info.Size)
	})

	info.Key = key
	if !info.IsTerminal {
		info.Modified, info.Size = time.Time{}, 0
	}

	return info, err
}

// List implements certmagic.Storage. Keys come sorted.
func (s *postgresStore) List(ctx context.Context, prefix string, recursive bool) (keys []string, err error) {
	// The last code point of Unicode sorts behind every name.
	from, to := "", "\U0010FFFF"
	if prefix != "" {
		if err := ValidKey(prefix); err != nil {
			return nil, err
		}
		from, to = below(prefix)
	}

	err = s.do(ctx, "listing", prefix, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `SELECT name FROM padlock_values WHERE name >= $1 AND name < $2 ORDER BY name`, from, to)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
		if err == nil && len(keys) == 0 && prefix != "" {
			err = pgx.ErrNoRows
		}
		return err
	})
	return children(prefix, s.odd.without(keys), recursive), err
}

func (s *postgresStore) acquire(ctx context.Context, name string, token int64) (ours bool, err error) {
	err = s.do(ctx, "locking", name, func(ctx context.Context) error {
		// The clock of the server decides about the end, as those of nodes differ.
		tag, err := s.pool.Exec(ctx, `INSERT INTO padlock_locks VALUES ($1, $2, now() + $3::interval)
			ON CONFLICT (name) DO UPDATE SET token = excluded.token, ends = excluded.ends WHERE padlock_locks.ends <= now()`, name, token, s.duration.String())
		ours = err == nil && tag.RowsAffected() == 1
		return err
	})
	return ours, err
}

func (s *postgresStore) renew(ctx context.Context, name string, token int64) (ours bool, err error) {
	err = s.do(ctx, "keeping", name, func(ctx context.Context) error {
		// The token alone counts: a lock that has ended and that nobody has taken over is still this node's.
		tag, err := s.pool.Exec(ctx, `UPDATE padlock_locks SET ends = now() + $3::interval WHERE name = $1 AND token = $2`, name, token, s.duration.String())
		ours = tag.RowsAffected() == 1
		return err
	})
	return ours, err
}

func (s *postgresStore) release(ctx context.Context, name string, token int64) (ours bool, err error) {
	err = s.do(ctx, "unlocking", name, func(ctx context.Context) error {
		tag, err := s.pool.Exec(ctx, `DELETE FROM padlock_locks WHERE name = $1 AND token = $2`, name, token)
		ours = tag.RowsAffected() == 1
		return err
	})
	return ours, err
}
