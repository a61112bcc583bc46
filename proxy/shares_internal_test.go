package proxy

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"padlock/internal/fair"
	"padlock/proxy/gateway"
	"padlock/proxy/message"
)

// leaving is a connection that can be asked to end, as one that a client uses.
type leaving struct{}

func (leaving) evict(active bool) bool { return active }

// A client that has many an IPv6 source (a /48 of 65,536) does not take what there is with one connection from each: of connections, of handshakes
// and of those that an address may have. The others in its network are no worse off than they are for what they have themselves.
func TestANetworkOfManySourcesIsNotManyClients(t *testing.T) {
	source := func(i int) netip.Prefix {
		return fair.Source(netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::1", i)))
	}
	other, elsewhere := fair.Source(netip.MustParseAddr("192.0.2.1")), fair.Source(netip.MustParseAddr("2001:db8:1::1"))
	const limit = 40

	t.Run("connections", func(t *testing.T) {
		s := newShares(limit)
		proxies := source(0xffff)
		s.exempt = func(from netip.Prefix) bool { return from == proxies }
		for i := range limit - 2 {
			if s.try(source(i), leaving{}) == nil {
				t.Fatal("there are slots")
			}
		}
		own := s.try(other, leaving{})
		if s.try(proxies, leaving{}); s.count() != limit || s.try(elsewhere, leaving{}) != nil {
			t.Fatalf("%d slots are taken", s.count())
		}
		for _, from := range []netip.Prefix{elsewhere, other, proxies} {
			if !s.makeRoom(from) {
				t.Errorf("nobody makes room for %s", from)
			}
		}
		if s.makeRoom(source(limit)) {
			t.Error("one of the network's makes room for another")
		}
		s.leave(own)
		for range 3 {
			s.note(source(1), leaving{}, func() {})
		}
		if most := s.loads.Most(s.exempt); most != source(1) || !s.makeRoom(source(limit)) {
			t.Errorf("the source with the most in the network makes no room, but %s", most)
		}
	})
	t.Run("handshakes", func(t *testing.T) {
		pending := newPendingConns(limit, nil, nil)
		for i := range limit {
			if m, _, _ := pending.try(nil, source(i)); m == nil {
				t.Fatal("there is room")
			}
		}
		for _, from := range []netip.Prefix{other, elsewhere} {
			if _, out, wait := pending.try(nil, from); out == nil {
				t.Errorf("%s waits for %s", from, wait)
			} else if m, _, _ := pending.try(nil, from); m == nil {
				t.Error("what made room has it still")
			}
		}
		if _, out, _ := pending.try(nil, source(limit)); out != nil {
			t.Errorf("%s makes room for another of its network", out.from)
		}
	})
	t.Run("of an address", func(t *testing.T) {
		all := addresses{limit: 3}
		taken := 0
		for i := range 100 {
			if all.enter(source(i)) {
				taken++
			}
		}
		if taken != 12 || !all.enter(other) || !all.enter(elsewhere) {
			t.Errorf("a network has %d connections", taken)
		}
		all.leave(source(0))
		if !all.enter(source(200)) {
			t.Error("what was given back cannot be had")
		}
	})
}

// going is a connection that ends as soon as it is asked to, in a goroutine of its own.
type going struct {
	shares *shares
	slot   *slot
	asked  *atomic.Int32
}

func (g *going) evict(active bool) bool {
	if active && g.asked.Add(1) > 0 {
		go g.shares.leave(g.slot)
	}
	return active
}

// A client that needs one place takes one from another, however fast that is given back.
func TestOnePlaceCostsOneConnection(t *testing.T) {
	t.Parallel()
	many := netip.MustParsePrefix("192.0.2.1/32")
	for range 2000 {
		s := newShares(8)
		var asked atomic.Int32
		for range 8 {
			g := &going{shares: s, asked: &asked}
			g.slot = s.try(many, g)
		}
		few := &stream{ConnectionRecord: gateway.ConnectionRecord{Facts: &message.Conn{Addr: netip.MustParseAddr("192.0.2.2")}}}
		if !(&service{slots: s}).enter(few) {
			t.Fatal("there is no place")
		}
		if n := asked.Load(); n != 1 {
			t.Fatalf("%d connections have made room for one", n)
		}
	}
}
