package mdns

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// A question gets the addresses of the interface that it came by, each once and only if it is not known; one for a
// kind of address that there is none of is told so, and one for another name gets nothing.
func TestWhoAsksGetsWhatTheyDoNotKnow(t *testing.T) {
	t.Parallel()
	l := link{addresses: []netip.Addr{netip.MustParseAddr("192.168.7.1"), netip.MustParseAddr("10.0.0.1")}}
	ask := func(kinds ...uint16) *dns.Msg {
		m := &dns.Msg{}
		for _, kind := range kinds {
			m.Question = append(m.Question, dns.Question{Name: "Shop.local.", Qtype: kind, Qclass: dns.ClassINET | flush})
		}
		return m
	}

	if got := l.answers("shop.local.", ask(dns.TypeA, dns.TypeANY, dns.TypeA)); len(got) != 2 {
		t.Error(got)
	}
	got := l.answers("shop.local.", ask(dns.TypeAAAA))
	if none, ok := got[0].(*dns.NSEC); len(got) != 1 || !ok || len(none.TypeBitMap) != 1 || none.TypeBitMap[0] != dns.TypeA {
		t.Error(got)
	}
	if got := l.answers("other.local.", ask(dns.TypeA)); len(got) != 0 {
		t.Error(got)
	}

	knows := ask(dns.TypeA)
	for life, answers := range map[uint32]int{100: 1, 10: 2} {
		knows.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "shop.local.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: life}, A: l.addresses[0].AsSlice()}}
		if got := l.answers("shop.local.", knows); len(got) != answers {
			t.Errorf("knowing one for %d s: %v", life, got)
		}
	}

	for _, r := range ordinary(l.records("shop.local.", timeToLive)) {
		if h := r.Header(); h.Class != dns.ClassINET || h.Ttl > 10 {
			t.Error(r)
		}
	}
}
