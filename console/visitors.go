package console

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"padlock/handshake"
)

// visitors are the clients of the trust page, as many as are remembered.
type visitors struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]*visitor
}

// visitor is one client address.
type visitor struct {
	seen      time.Time
	tokens    float64 // requests that it may make at once
	greeted   bool    // it was told of
	trusting  bool    // so was this
	opened    time.Time
	arrived   time.Time
	handshake uint64 // with which it arrived
}

const (
	maxVisitors   = 256
	visitorBurst  = 40 // requests
	visitorRefill = 5  // requests a second: the page makes one in two
)

// find makes room for a visitor who has not been here. It is called with mu held.
func (v *visitors) find(addr netip.Addr, now time.Time) *visitor {
	one, ok := v.byAddr[addr]
	if ok {
		return one
	}
	if v.byAddr == nil {
		v.byAddr = map[netip.Addr]*visitor{}
	}

	// A client may come from any number of IPv6 addresses.
	if len(v.byAddr) >= maxVisitors {
		var oldest netip.Addr
		for a, other := range v.byAddr {
			if !oldest.IsValid() || other.seen.Before(v.byAddr[oldest].seen) {
				oldest = a
			}
		}
		delete(v.byAddr, oldest)
	}

	one = &visitor{tokens: visitorBurst, seen: now}
	v.byAddr[addr] = one
	return one
}

// admit reports whether a client may make another request.
func (v *visitors) admit(addr netip.Addr, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	one := v.find(addr, now)
	one.tokens = min(one.tokens+now.Sub(one.seen).Seconds()*visitorRefill, visitorBurst)
	one.seen = now
	if one.tokens < 1 {
		return false
	}
	one.tokens--
	return true
}

// greet notes that a client has opened the page, and reports whether it is the first time.
func (v *visitors) greet(addr netip.Addr, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	one := v.find(addr, now)
	first := !one.greeted
	one.greeted, one.opened = true, now
	return first
}

// arrive notes that a request of a client came through TLS, and reports whether that is news of one who has seen the
// page.
func (v *visitors) arrive(addr netip.Addr, id uint64, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	one := v.find(addr, now)
	news := one.greeted && !one.trusting
	one.arrived, one.handshake, one.trusting = now, id, one.trusting || one.greeted
	return news
}

// patience is how long after its last request a page is taken for open.
const patience = 10 * time.Second

// waits reports whether a client has the page open and has not arrived since.
func (v *visitors) waits(addr netip.Addr, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	one, ok := v.byAddr[addr]
	return ok && one.greeted && !one.arrived.After(one.opened) && now.Sub(one.seen) < patience
}

// last is when a client arrived, and by which handshake.
func (v *visitors) last(addr netip.Addr) (time.Time, uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if one, ok := v.byAddr[addr]; ok {
		return one.arrived, one.handshake
	}
	return time.Time{}, 0
}

// trustState is what is known of one client's handshakes since it opened the page.
type trustState struct {
	State  string `json:"state"` // waiting | refused | trusted
	Text   string `json:"text"`
	Detail string `json:"detail"`
}

// state looks at the client's own handshakes alone.
func (t *Trust) state(client netip.Addr, since time.Time) trustState {
	if at, id := t.visitors.last(client); at.After(since) {
		return trusted(id)
	}

	var refused *handshake.Failure
	if t.o.Recent != nil {
		for _, e := range t.o.Recent.Events() {
			if !e.Start.After(since) || remote(e.Remote) != client || e.Validation {
				continue
			}
			switch {
			case e.Outcome == handshake.Complete:
				return trusted(e.ID)
			case refused == nil && e.Failure != nil && e.Failure.By == handshake.Client && (e.Outcome == handshake.Failed && e.Noise == "" || e.Failure.Alert >= 0):
				refused = e.Failure
			}
		}
	}

	if refused != nil {
		return trustState{"refused", "Not yet trusted", sentence(cmp.Or(refused.Cause, "the client hung up"))}
	}
	return trustState{"waiting", "Waiting for a handshake", "No handshake of this device has been seen since this page was opened."}
}

func trusted(id uint64) trustState {
	s := trustState{State: "trusted", Text: "This device trusts padlock", Detail: "Its handshake came through."}
	if id != 0 {
		s.Detail = "Its handshake came through: number " + strconv.FormatUint(id, 10) + "."
	}
	return s
}

// sentence is a cause as a page has it.
func sentence(cause string) string {
	return strings.ToUpper(cause[:1]) + cause[1:] + "."
}
