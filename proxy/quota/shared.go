package quota

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"padlock/internal/mask"
	"padlock/internal/redisurl"
)

// Redis is where nodes count together. While it does not answer, nobody waits for it. It is safe for use from many
// goroutines.
type Redis struct {
	client redis.UniversalClient
	prefix string
	name   string
	log    *slog.Logger

	away    atomic.Int64 // until then nobody asks, in nanoseconds of the clock; 0: it answers
	trying  atomic.Bool  // somebody finds out whether it answers again
	saying  sync.Mutex
	said    bool // that it is away
	closing sync.Once
}

const (
	// redisPatience is for how long a request waits for the count: a client sees no difference, and a Redis that is slower
	// than that is as good as away.
	redisPatience = 250 * time.Millisecond
	// redisRest is between attempts while it is away.
	redisRest = time.Second
)

// ErrAway is given while Redis does not answer.
var ErrAway = errors.New("the Redis that counts for all nodes does not answer")

// OpenRedis connects when something is counted.
func OpenRedis(location string, log *slog.Logger) (*Redis, error) {
	options, prefix, err := redisurl.Parse(location)
	if err != nil {
		return nil, err
	}
	// A count that is asked for twice would count twice.
	options.MaxRetries = -1
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = time.Second, redisPatience, redisPatience
	options.PoolTimeout = redisPatience
	return &Redis{client: redis.NewUniversalClient(options), prefix: prefix + "rate:", name: mask.URL(location), log: log}, nil
}

// Close gives the connections back.
func (r *Redis) Close() { r.closing.Do(func() { _ = r.client.Close() }) }

// Shared is a Rate that nodes have in common.
type Shared struct {
	redis *Redis
	name  string // the same on all nodes
	every time.Duration
	burst time.Duration
	share int
}

// NewShared allows what NewRate does, to all nodes that count under the same name together. A network of clients has
// the budget of as many as share says.
func NewShared(r *Redis, name string, requests int, per time.Duration, burst, share int) *Shared {
	// Redis counts in microseconds, and a part of every is a network's.
	every := max(per/time.Duration(requests), time.Duration(share)*time.Microsecond)
	return &Shared{redis: r, name: name, every: every, burst: every * time.Duration(burst), share: share}
}

// gcra counts in one step, by the clock of Redis: those of nodes differ. Each key is the time at which a client, or a
// network, is even with the pace, and is gone by then. A time that is further ahead than the burst is one of before a
// step of the clock. Nothing is counted for who is refused.
var gcra = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local burst = tonumber(ARGV[1])
local dues, left = {}, nil
for i, key in ipairs(KEYS) do
  local every = tonumber(ARGV[i + 1])
  local due = tonumber(redis.call('GET', key)) or 0
  if due < now then due = now end
  if due > now + burst then due = now + burst end
  due = due + every
  if due - burst > now then return {0, due - burst - now} end
  dues[i] = due
  local more = math.floor((burst - (due - now)) / every)
  if left == nil or more < left then left = more end
end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.0f', dues[i]), 'PX', math.ceil((dues[i] - now) / 1000))
end
return {1, left}
`)

// Take counts one of a client's, and of its network's unless that is "". The results are those of Rate; the error is
// ErrAway.
func (s *Shared) Take(client, network string) (left int, wait time.Duration, ok bool, err error) {
	keys, limits := s.keys(client, network)
	var answer []int64
	err = s.redis.ask(func(ctx context.Context) (err error) {
		answer, err = gcra.Run(ctx, s.redis.client, keys, limits...).Int64Slice()
		if err == nil && len(answer) != 2 {
			err = errors.New("an answer of another kind")
		}
		return err
	})

	switch {
	case err != nil:
		return 0, 0, false, err
	case answer[0] == 1:
		return int(answer[1]), 0, true, nil
	}
	return 0, time.Duration(answer[1]) * time.Microsecond, false, nil
}

// keys are those that one request counts under, which a Cluster keeps on one node, with the burst and the pace of each.
func (s *Shared) keys(client, network string) (keys []string, limits []any) {
	// Redis knows no clients: a header or a cookie may be a secret.
	hashed := func(text string) string {
		sum := sha256.Sum256([]byte(s.name + "\n" + text))
		return hex.EncodeToString(sum[:16])
	}
	limits = []any{s.burst.Microseconds(), s.every.Microseconds()}
	if network == "" {
		return []string{s.redis.prefix + hashed(client)}, limits
	}
	of := s.redis.prefix + "{" + hashed("network "+network) + "}"
	return []string{of + hashed(client), of}, append(limits, s.every.Microseconds()/int64(s.share))
}

// ask does something with Redis, unless that is away.
func (r *Redis) ask(do func(context.Context) error) error {
	if until := r.away.Load(); until != 0 {
		// One finds out whether it is back, and nobody else waits for that.
		if time.Now().UnixNano() < until || !r.trying.CompareAndSwap(false, true) {
			return ErrAway
		}
		defer r.trying.Store(false)
	}

	ctx, cancel := context.WithTimeout(context.Background(), redisPatience)
	defer cancel()
	err := do(ctx)
	if err == nil {
		if r.away.Load() != 0 {
			r.away.Store(0)
			r.say(nil)
		}
		return nil
	}
	r.away.Store(time.Now().Add(redisRest).UnixNano())
	r.say(err)
	return ErrAway
}

// say logs that Redis is away, and that it is back, each once.
func (r *Redis) say(err error) {
	r.saying.Lock()
	defer r.saying.Unlock()
	switch {
	case err != nil && !r.said:
		r.log.Warn("rate limits are not shared: the Redis that counts for all nodes does not answer", "redis", r.name, "error", mask.Text(err.Error()), "remedy", "on_failure says what happens meanwhile")
	case err == nil && r.said:
		r.log.Info("rate limits are shared again", "redis", r.name)
	}
	r.said = err != nil
}
