package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"padlock/internal/redisurl"

	"github.com/caddyserver/certmagic"
	"github.com/redis/go-redis/v9"
)

// redisStore is a Store in Redis. All of its keys share one hash tag, so that a Cluster keeps them on one node and a
// script may touch several of them. A value is a hash of its data and its time; an ordered set of all names at one
// score makes listing a range.
type redisStore struct {
	*leases
	client redis.UniversalClient
	prefix string
	name   string
	log    *slog.Logger
	odd    strangers

	maxValue int64 // bytes
}

const redisTag = "{padlock}:"

// openRedis takes what redisurl.Parse does.
func openRedis(location string, o Options) (*redisStore, error) {
	options, prefix, err := redisurl.Parse(location)
	if err != nil {
		return nil, err
	}
	s := &redisStore{client: redis.NewUniversalClient(options), prefix: redisTag + prefix, name: Redacted(location), log: o.Log, odd: strangers{log: o.Log}, maxValue: o.maxValue()}
	s.leases = newLeases(s, o)
	return s, nil
}

func (s *redisStore) String() string { return s.name }

func (s *redisStore) Close() error { return errors.Join(s.releaseAll(), s.client.Close()) }

func (s *redisStore) value(key string) string { return s.prefix + "value:" + key }
func (s *redisStore) lock(name string) string { return s.prefix + "lock:" + name }
func (s *redisStore) index() string           { return s.prefix + "index" }

// redisError tells "not there" and "not reached" from what Redis answered.
func redisError(action, key string, err error) error {
	var answer redis.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return &fs.PathError{Op: action, Path: key, Err: fs.ErrNotExist}
	case errors.Is(err, context.Canceled):
		return err
	case wrongType(err):
		return fmt.Errorf("%s %s: %w: redis: %w", action, key, ErrUnusable, err)
	case errors.As(err, &answer):
		return fmt.Errorf("%s %s: redis: %w", action, key, err)
	}
	return fmt.Errorf("%s %s: %w: %w", action, key, ErrUnavailable, err)
}

// wrongType reports whether Redis has a key of another type than padlock writes.
func wrongType(err error) bool {
	var answer redis.Error
	// Where a script fails, Redis before version 7 puts its own words in front of the command's error.
	return errors.As(err, &answer) && strings.Contains(answer.Error(), "WRONGTYPE")
}

var (
	// KEYS: value, index, lock. ARGV: data, time in ms, name, and the lock's token or nothing.
	redisStoreScript = redis.NewScript(`
if ARGV[4] ~= "" and redis.call("GET", KEYS[3]) ~= ARGV[4] then return 0 end
redis.call("HSET", KEYS[1], "data", ARGV[1], "modified", ARGV[2])
redis.call("ZADD", KEYS[2], 0, ARGV[3])
return 1`)
	// KEYS: index. ARGV: the prefix of value keys, the name, and a name's directory as a range.
	redisDeleteScript = redis.NewScript(`
local names = redis.call("ZRANGEBYLEX", KEYS[1], "[" .. ARGV[2] .. "/", "(" .. ARGV[2] .. "0")
table.insert(names, ARGV[2])
for _, name in ipairs(names) do
  redis.call("DEL", ARGV[1] .. name)
  redis.call("ZREM", KEYS[1], name)
end
return #names`)
	// KEYS: lock. ARGV: token, lease in ms. A try that is repeated, as its answer was lost, is the same try.
	redisLockScript = redis.NewScript(`
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return 1`)
	redisRenewScript = redis.NewScript(`
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call("PEXPIRE", KEYS[1], ARGV[2])`)
	redisUnlockScript = redis.NewScript(`
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call("DEL", KEYS[1])`)
)

// KEYS: value, index, where the value goes. ARGV: name, and how many bytes a value has at most.
var redisQuarantineScript = redis.NewScript(`
local kind = redis.call("TYPE", KEYS[1]).ok
if kind == "none" or kind == "hash" and redis.call("HSTRLEN", KEYS[1], "data") <= tonumber(ARGV[2]) then return 0 end
redis.call("RENAME", KEYS[1], KEYS[3])
redis.call("ZREM", KEYS[2], ARGV[1])
return 1`)

// quarantine implements quarantiner: it renames what is not a hash, or is too large, and so is nothing that padlock has
// written.
func (s *redisStore) quarantine(ctx context.Context, key string) (place string, err error) {
	place = s.prefix + "set-aside:" + time.Now().UTC().Format(quarantineTime) + ":" + key
	moved, err := redisQuarantineScript.Run(ctx, s.client, []string{s.value(key), s.index(), place}, key, s.maxValue).Int()
	if err != nil || moved == 0 {
		return "", redisError("setting aside", key, err)
	}
	return place, nil
}

// Store implements certmagic.Storage.
func (s *redisStore) Store(ctx context.Context, key string, value []byte) error {
	return s.store(ctx, key, value, "", "")
}

// StoreFenced implements Store: the lock's token is compared where the value is written, in one step.
func (s *redisStore) StoreFenced(ctx context.Context, lock, key string, value []byte) error {
	token := s.token(lock)
	if token == 0 {
		return fmt.Errorf("storing %s: %w", key, ErrLockLost)
	}
	return s.store(ctx, key, value, lock, strconv.FormatInt(token, 10))
}

func (s *redisStore) store(ctx context.Context, key string, value []byte, lock, token string) error {
	if err := ValidKey(key); err != nil {
		return err
	}

	// All keys of a script are named, which a Cluster needs to find their node.
	keys := []string{s.value(key), s.index(), s.lock(lock)}
	run := func() (int, error) {
		return redisStoreScript.Run(ctx, s.client, keys, value, time.Now().UnixMilli(), key, token).Int()
	}

	done, err := run()
	// Another program has used the key. What it stored is kept, and ours takes the place.
	if wrongType(err) && quarantine(ctx, s, key, err, s.log) {
		done, err = run()
	}
	if err == nil && done == 0 {
		return fmt.Errorf("storing %s: %w", key, ErrLockLost)
	}

	return redisError("storing", key, err)
}

// Load implements certmagic.Storage.
func (s *redisStore) Load(ctx context.Context, key string) ([]byte, error) {
	if err := ValidKey(key); err != nil {
		return nil, err
	}
	// Asked first, as an answer is in memory before it can be refused.
	size, err := s.client.HStrLen(ctx, s.value(key), "data").Result()
	if err == nil && size > s.maxValue {
		return nil, tooLarge(key, size, s.maxValue)
	}
	var value []byte
	if err == nil {
		value, err = s.client.HGet(ctx, s.value(key), "data").Bytes()
	}
	return value, redisError("loading", key, err)
}

// Delete implements certmagic.Storage.
func (s *redisStore) Delete(ctx context.Context, key string) error {
	if err := ValidKey(key); err != nil {
		return err
	}
	err := redisDeleteScript.Run(ctx, s.client, []string{s.index()}, s.value(""), key).Err()
	return redisError("deleting", key, err)
}

// Exists implements certmagic.Storage.
func (s *redisStore) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// Stat implements certmagic.Storage.
func (s *redisStore) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if err := ValidKey(key); err != nil {
		return certmagic.KeyInfo{}, err
	}

	pipe := s.client.Pipeline()
	modified := pipe.HGet(ctx, s.value(key), "modified")
	size := pipe.HStrLen(ctx, s.value(key), "data")
	// A key may be a directory, which exists as long as something is below it.
	below := pipe.ZRangeByLex(ctx, s.index(), &redis.ZRangeBy{Min: "[" + key + "/", Max: "(" + key + "0", Count: 1})
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return certmagic.KeyInfo{}, redisError("looking for", key, err)
	}

	if ms, err := modified.Int64(); err == nil {
		return certmagic.KeyInfo{Key: key, Modified: time.UnixMilli(ms), Size: size.Val(), IsTerminal: true}, nil
	}
	if len(below.Val()) > 0 {
		return certmagic.KeyInfo{Key: key}, nil
	}

	return certmagic.KeyInfo{}, redisError("looking for", key, redis.Nil)
}

// List implements certmagic.Storage. Keys come sorted.
func (s *redisStore) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	between := &redis.ZRangeBy{Min: "-", Max: "+"}
	if prefix != "" {
		if err := ValidKey(prefix); err != nil {
			return nil, err
		}
		// The character 0 follows / in ASCII, so this range holds all keys below the prefix.
		between = &redis.ZRangeBy{Min: "[" + prefix + "/", Max: "(" + prefix + "0"}
	}
	keys, err := s.client.ZRangeByLex(ctx, s.index(), between).Result()
	// An empty directory does not exist, as in the other backends.
	if err == nil && len(keys) == 0 && prefix != "" {
		err = redis.Nil
	}
	return children(prefix, s.odd.without(keys), recursive), redisError("listing", prefix, err)
}

func (s *redisStore) acquire(ctx context.Context, name string, token int64) (bool, error) {
	done, err := redisLockScript.Run(ctx, s.client, []string{s.lock(name)}, token, s.duration.Milliseconds()).Int()
	return done == 1, redisError("locking", name, err)
}

func (s *redisStore) renew(ctx context.Context, name string, token int64) (bool, error) {
	done, err := redisRenewScript.Run(ctx, s.client, []string{s.lock(name)}, token, s.duration.Milliseconds()).Int()
	return done == 1, err
}

func (s *redisStore) release(ctx context.Context, name string, token int64) (bool, error) {
	done, err := redisUnlockScript.Run(ctx, s.client, []string{s.lock(name)}, token).Int()
	return done == 1, redisError("unlocking", name, err)
}
