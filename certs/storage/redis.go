package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"padlock/internal/mask"
	"padlock/internal/pemfile"

	"github.com/caddyserver/certmagic"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
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

const (
	redisTimeout = 3 * time.Second
	redisTag     = "{padlock}:"
)

// openRedis takes redis://[USER:PASSWORD@]HOST[:PORT][,HOST:PORT…][/DB]. rediss:// is with TLS; ?master=NAME asks
// Sentinels, ?cluster=true is for a Cluster; ?prefix= separates several padlocks in one database; ?sentinel_password=
// is the Sentinels' own; ?ca=FILE holds the CAs that the servers are verified against, in PEM.
func openRedis(location string, o Options) (*redisStore, error) {
	options, prefix, err := redisOptions(location)
	if err != nil {
		return nil, err
	}
	// Failures are returned. The package would print them as well.
	logging.Disable()
	s := &redisStore{client: redis.NewUniversalClient(options), prefix: redisTag + prefix, name: Redacted(location), log: o.Log, odd: strangers{log: o.Log}, maxValue: o.maxValue()}
	s.leases = newLeases(s, o)
	return s, nil
}

func redisOptions(location string) (*redis.UniversalOptions, string, error) {
	hosts, rest := redisHosts(location)
	u, err := url.Parse(rest)
	if err != nil {
		// The error of net/url would repeat the password.
		return nil, "", errors.New("not a URL such as redis://host:6379/0")
	}

	query := u.Query()
	take := func(name string) string {
		value := query.Get(name)
		query.Del(name)
		return value
	}

	master, cluster, prefix, sentinel, ca := take("master"), take("cluster"), take("prefix"), take("sentinel_password"), take("ca")
	// go-redis refuses parameters that it does not know.
	u.RawQuery = query.Encode()
	parsed, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, "", errors.New(mask.Text(err.Error()))
	}

	if ca != "" {
		if parsed.TLSConfig == nil {
			return nil, "", errors.New("ca= is for rediss://, which is with TLS")
		}
		if parsed.TLSConfig.RootCAs, err = pemfile.LoadPool(ca); err != nil {
			return nil, "", err
		}
	}

	isCluster, err := strconv.ParseBool(cluster)
	if err != nil && cluster != "" {
		return nil, "", errors.New("cluster= must be true or false")
	}
	o := &redis.UniversalOptions{
		Addrs: hosts, DB: parsed.DB, Username: parsed.Username, Password: parsed.Password, TLSConfig: parsed.TLSConfig,
		MasterName: master, SentinelPassword: sentinel, IsClusterMode: isCluster,
		DialTimeout: redisTimeout, ReadTimeout: redisTimeout, WriteTimeout: redisTimeout, ContextTimeoutEnabled: true, MaxRetries: 2,
		// Redis before version 7.2 answers CLIENT SETINFO with an error.
		DisableIdentity: true,
	}

	// ParseURL has completed the address with the default port.
	if len(hosts) == 1 && !isCluster && master == "" {
		o.Addrs = []string{parsed.Addr}
	}
	if len(hosts) > 1 && !isCluster && master == "" {
		return nil, "", errors.New("several hosts need ?master=NAME (Sentinel) or ?cluster=true")
	}

	if o.TLSConfig != nil && len(hosts) > 1 {
		// Each host of a cluster is verified under its own name.
		o.TLSConfig.ServerName = ""
	}

	return o, prefix, nil
}

// redisHosts takes the list of hosts apart, which is no part of a URL, and leaves the first.
func redisHosts(location string) (hosts []string, first string) {
	scheme, rest, _ := strings.Cut(location, "://")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}

	user, list := "", rest[:end]
	// The last one, as a password may contain another.
	if at := strings.LastIndexByte(list, '@'); at >= 0 {
		user, list = list[:at+1], list[at+1:]
	}
	hosts = strings.Split(list, ",")
	for i, host := range hosts {
		if !strings.Contains(strings.TrimPrefix(host, "["), ":") || strings.HasSuffix(host, "]") {
			hosts[i] = host + ":6379"
		}
	}

	return hosts, scheme + "://" + user + hosts[0] + rest[end:]
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
