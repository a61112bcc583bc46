package gateway

import (
	"fmt"
	"iter"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"padlock/internal/fair"
	"padlock/proxy/message"
	"padlock/proxy/quota"
	"padlock/proxy/sites"
)

// rates count the requests of the limits of all sites and routes. One that a reload leaves as it is goes on counting.
// They are safe for use from many goroutines.
type rates struct {
	mu  sync.Mutex
	all map[string]*rate // by whose limit it is, and what that says
}

// rate counts for one limit.
type rate struct {
	clients  *quota.Rate
	networks *quota.Rate // of IPv6, each with many addresses of one client
}

// perNetwork is how many clients a network counts as at most, as it does for package fair.
const perNetwork = 4

// take counts a request. One that the client may not send costs its network nothing.
func (r *rate) take(x *Exchange, by string) (left int, wait time.Duration, ok bool) {
	client, address := x.counted(by)
	if left, wait, ok = r.clients.Take(client); !ok || !address || !x.addr.Is6() {
		return left, wait, ok
	}
	others, wait, ok := r.networks.Take(fair.Network(x.addr).String())
	return min(left, others), wait, ok
}

// of finds what counts for a limit, or begins to count.
func (r *rates) of(l *sites.RateLimit) *rate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]*rate{}
	}
	key := rateKey(l)
	if r.all[key] == nil {
		r.all[key] = &rate{quota.NewRate(l.Requests, l.Per, l.Burst), quota.NewRate(perNetwork*l.Requests, l.Per, perNetwork*l.Burst)}
	}
	return r.all[key]
}

func rateKey(l *sites.RateLimit) string { return fmt.Sprintf("%s\n%+v", l.Whose, *l.RateLimit) }

// keep forgets what counts for limits that a snapshot does not have.
func (r *rates) keep(s *sites.Snapshot) {
	kept := map[string]bool{}
	keep := func(a *sites.Access) {
		if l := a.RateLimit(); l != nil {
			kept[rateKey(l)] = true
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
}

// limited refuses requests of clients that send too many, and lets the others know how many they may send.
func limited(rate *rate, c *sites.RateLimit) Filter {
	// The field counts in whole seconds, so no window is shorter than one.
	policy := fmt.Sprintf(`"default";q=%d;w=%d`, c.Requests, int(max(c.Per, time.Second)/time.Second))
	return func(next Action) Action {
		return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
			left, wait, ok := rate.take(x, c.By)
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

// counted is what a client counts as, which may be its address.
func (x *Exchange) counted(by string) (client string, address bool) {
	kind, name, _ := strings.Cut(by, ":")
	switch kind {
	case "user":
		if x.user != "" {
			return "user " + x.user, false
		}
	case "header":
		if value, ok := single(x.request.Fields.Lines(name)); ok {
			return "header " + value, false
		}
	case "cookie":
		if value, ok := single(x.request.Fields.Cookies(name)); ok && !strings.HasPrefix(value, `"`) {
			return "cookie " + value, false
		}
	}

	// Clients without the value share no quota with each other, but with their own address.
	return "address " + fair.Source(x.addr).String(), true
}

// single is the only value of several that there may be, and not empty. Where there are more, targets differ in which
// they take: a client could add one that it invents, and be another with each request. So do the ways in which they
// read a cookie's value in quotes.
func single(values iter.Seq[string]) (value string, ok bool) {
	n := 0
	for v := range values {
		value = v
		n++
	}
	return value, n == 1 && value != ""
}
