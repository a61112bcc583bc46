package gateway

import (
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"padlock/internal/fair"
	"padlock/internal/mask"
	"padlock/proxy/message"
	"padlock/proxy/quota"
	"padlock/proxy/sites"
)

// rates count the requests of the limits of all sites and routes. One that a reload leaves as it is goes on counting.
// They are safe for use from many goroutines.
type rates struct {
	log *slog.Logger

	mu    sync.Mutex
	all   map[string]*rate        // by whose limit it is, and what that says
	redis map[string]*quota.Redis // by URL
}

// rate counts for one limit.
type rate struct {
	clients  *quota.Rate   // of this padlock; nil: any number
	networks *quota.Rate   // of IPv6, each with many addresses of one client
	shared   *quota.Shared // of all nodes; nil: each counts for itself
	closed   bool          // requests are refused while shared does not answer

	places *quota.Places // nil: any number at once
	halls  *quota.Places // of networks
}

// perNetwork is how many clients a network counts as at most, as it does for package fair.
const perNetwork = 4

// of finds what counts for a limit, or begins to count.
func (r *rates) of(l *sites.RateLimit) *rate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]*rate{}
	}
	key := rateKey(l)
	if r.all[key] == nil {
		r.all[key] = r.begin(l)
	}
	return r.all[key]
}

func (r *rates) begin(l *sites.RateLimit) *rate {
	made := &rate{closed: l.OnFailure == "closed"}
	if l.Concurrent > 0 {
		made.places, made.halls = quota.NewPlaces(l.Concurrent), quota.NewPlaces(perNetwork*l.Concurrent)
	}
	if l.Requests == 0 {
		return made
	}

	made.clients, made.networks = quota.NewRate(l.Requests, l.Per, l.Burst), quota.NewRate(perNetwork*l.Requests, l.Per, perNetwork*l.Burst)
	if l.At != "" {
		if redis := r.open(l.At); redis != nil {
			// Nodes may write the URL, and what else does not count, in ways of their own.
			name := fmt.Sprintf("%s\n%d %s %d %s", l.Whose, l.Requests, l.Per, l.Burst, l.By)
			made.shared = quota.NewShared(redis, name, l.Requests, l.Per, l.Burst, perNetwork)
		}
	}
	return made
}

// open is called with the lock held. Validation has parsed the URL; a file that it names may be gone since, and then
// each node counts for itself, as nothing could be shared.
func (r *rates) open(url string) *quota.Redis {
	if r.redis == nil {
		r.redis = map[string]*quota.Redis{}
	}
	if r.redis[url] == nil {
		opened, err := quota.OpenRedis(url, r.log)
		if err != nil {
			r.log.Error("rate limits are not shared", "redis", mask.URL(url), "error", err)
			return nil
		}
		r.redis[url] = opened
	}
	return r.redis[url]
}

func rateKey(l *sites.RateLimit) string {
	return fmt.Sprintf("%s\n%s\n%+v", l.Whose, l.At, *l.RateLimit)
}

// keep forgets what counts for limits that a snapshot does not have.
func (r *rates) keep(s *sites.Snapshot) {
	kept, urls := map[string]bool{}, map[string]bool{}
	keep := func(a *sites.Access) {
		if l := a.RateLimit(); l != nil {
			kept[rateKey(l)], urls[l.At] = true, true
		}
	}

	for _, site := range s.Sites {
		keep(&site.Access)
		for _, route := range site.Routes {
			keep(&route.Access)
		}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.all, func(key string, _ *rate) bool { return !kept[key] })
	// Requests of the snapshot before that are still on their way find it away, and count by themselves.
	maps.DeleteFunc(r.redis, func(url string, redis *quota.Redis) bool {
		if !urls[url] {
			redis.Close()
		}
		return !urls[url]
	})
}

// close lets go of all connections.
func (r *rates) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, redis := range r.redis {
		redis.Close()
	}
}

// take counts one request. One that the client may not send costs its network nothing. closed is set where nobody can
// tell, and requests are refused then.
func (r *rate) take(client, network string) (left int, wait time.Duration, ok, closed bool) {
	if r.shared != nil {
		left, wait, ok, err := r.shared.Take(client, network)
		if err == nil || r.closed {
			return left, wait, ok, err != nil
		}
	}

	if left, wait, ok = r.clients.Take(client); !ok || network == "" {
		return left, wait, ok, false
	}
	others, wait, ok := r.networks.Take(network)
	return min(left, others), wait, ok, false
}

// limited refuses requests of clients that send too many, and lets the others know how many they may send.
func limited(rate *rate, c *sites.RateLimit) Filter {
	// The field counts in whole seconds, so no window is shorter than one.
	policy := fmt.Sprintf(`"default";q=%d;w=%d`, c.Requests, int(max(c.Per, time.Second)/time.Second))
	return func(next Action) Action {
		return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
			client, network := x.counts(c.By)
			// First, as it is given back, and what is counted is not.
			if rate.places != nil && !x.enter(rate, client, network) {
				return nil, &StatusError{Status: 429, Text: "Too many requests at the same time", Fields: message.Fields{{Name: "Retry-After", Value: "1"}}}
			}
			if rate.clients == nil {
				return next.Answer(ctx, x)
			}

			left, wait, ok, closed := rate.take(client, network)
			if closed {
				page := busy(503, "Requests cannot be counted at the moment")
				page.Cause = quota.ErrAway.Error()
				return nil, page
			}
			if !ok {
				// Rounded up: a client that comes back a moment early would be refused again.
				again := strconv.Itoa(int((wait + time.Second - 1) / time.Second))
				return nil, &StatusError{Status: 429, Text: "Too many requests", Fields: message.Fields{
					{Name: "Retry-After", Value: again}, {Name: "RateLimit-Policy", Value: policy}, {Name: "RateLimit", Value: `"default";r=0;t=` + again},
				}}
			}

			response, err := next.Answer(ctx, x)
			// A field of the target's own says more about its limits.
			if err == nil && response.Fields.Value("RateLimit") == "" {
				response.Fields.Set("RateLimit-Policy", policy)
				response.Fields.Set("RateLimit", `"default";r=`+strconv.Itoa(left))
			}

			return response, err
		})
	}
}

// occupied is a place that an exchange has until it ends.
type occupied struct {
	of    *quota.Places
	place uint64
}

// vacate gives the places back. It may be called more than once.
func (x *Exchange) vacate() {
	for _, o := range x.occupied {
		o.of.Leave(o.place)
	}
	x.occupied = nil
}

// enter takes a place until the end of the response is sent, or the tunnel is closed.
func (x *Exchange) enter(r *rate, client, network string) bool {
	place, ok := r.places.Enter(client)
	if !ok {
		return false
	}
	x.occupied = append(x.occupied, occupied{r.places, place})
	if network == "" {
		return true
	}

	if place, ok = r.halls.Enter(network); ok {
		x.occupied = append(x.occupied, occupied{r.halls, place})
	}
	return ok
}

// counts is what a client counts as, and the network that it counts for; "": none.
func (x *Exchange) counts(by string) (client, network string) {
	client, address := x.counted(by)
	if address && x.addr.Is6() {
		network = fair.Network(x.addr).String()
	}
	return client, network
}

// counted is what a client counts as, which may be its address.
func (x *Exchange) counted(by string) (client string, address bool) {
	kind, name, _ := strings.Cut(by, ":")
	switch kind {
	case "user":
		if x.user != "" {
			return "user " + x.user, false
		}
	case "ja4":
		// Plain HTTP has none.
		if fingerprint := x.request.Conn.JA4; fingerprint != "" {
			return "ja4 " + fingerprint, false
		}
	case "header":
		f := x.request.Fields
		if value, ok := single(f.Lines(name)); ok && !f.Aliased(name) {
			return "header " + value, false
		}
	case "cookie":
		f := x.request.Fields
		if value, ok := single(f.Cookies(name)); ok && !strings.HasPrefix(value, `"`) && !f.CookieAliased(name) {
			return "cookie " + value, false
		}
	}

	// Clients without the value share no quota with each other, but with their own address.
	return "address " + fair.Source(x.addr).String(), true
}

// single is the only value of several that there may be, and not empty. Where there are more, targets differ in which
// they take: a client could add one that it invents, and be another with each request. So it is where a name passes for
// another, and with the ways in which targets read a cookie's value in quotes.
func single(values iter.Seq[string]) (value string, ok bool) {
	n := 0
	for v := range values {
		value = v
		n++
	}
	return value, n == 1 && value != ""
}
