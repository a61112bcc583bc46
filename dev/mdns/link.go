package mdns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"padlock/config"
)

const (
	timeToLive   = 120     // of an address, in seconds (RFC 6762 section 10)
	ordinaryLife = 10      // for resolvers that do not hear of changes (section 6.7)
	flush        = 1 << 15 // the answer is all there is: others are forgotten (section 10.2)
)

// link is an interface to devices nearby, with its addresses.
type link struct {
	index     int
	name      string
	addresses []netip.Addr
}

func (l link) String() string { return fmt.Sprint(l.index, l.addresses) }

// interfaces are those that devices are on.
func interfaces() (links []link, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("reading this machine's network interfaces: %w", err)
	}

	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}

		l := link{index: i.Index, name: i.Name}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && announces(prefix.Addr().Unmap()) {
				l.addresses = append(l.addresses, prefix.Addr().Unmap())
			}
		}
		if slices.SortFunc(l.addresses, netip.Addr.Compare); len(l.addresses) > 0 {
			links = append(links, l)
		}
	}

	return links, nil
}

// announces reports whether an address is announced to devices: the local CA signs for it, and it needs no zone.
func announces(a netip.Addr) bool {
	return config.IsLocal(a.String()) && (a.Is4() || !a.IsLinkLocalUnicast())
}

// isOwn reports whether an address is one of this machine's.
func isOwn(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true // and nothing is known to be another's
	}
	return slices.ContainsFunc(all, func(own net.Addr) bool {
		prefix, err := netip.ParsePrefix(own.String())
		return err == nil && prefix.Addr().Unmap() == a
	})
}

// records are the addresses of a name.
func (l link) records(name string, life uint32) (records []dns.RR) {
	for _, a := range l.addresses {
		header := dns.RR_Header{Name: name, Class: dns.ClassINET | flush, Ttl: life}
		if a.Is4() {
			header.Rrtype = dns.TypeA
			records = append(records, &dns.A{Hdr: header, A: a.AsSlice()})
			continue
		}
		header.Rrtype = dns.TypeAAAA
		records = append(records, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
	}
	return records
}

// answers are the records that a message asks for and does not know yet. For a kind of address that there is none
// of, the answer says so (section 6.1), so that nobody waits for one.
func (l link) answers(name string, m *dns.Msg) (answers []dns.RR) {
	records := l.records(name, timeToLive)
	for _, q := range m.Question {
		if !strings.EqualFold(q.Name, name) || q.Qclass&^flush != dns.ClassINET && q.Qclass&^flush != dns.ClassANY {
			continue
		}

		found := false
		for _, record := range records {
			if q.Qtype != dns.TypeANY && q.Qtype != record.Header().Rrtype {
				continue
			}
			found = true
			if !known(record, m.Answer) && !slices.Contains(answers, record) {
				answers = append(answers, record)
			}
		}
		if !found {
			answers = append(answers, kinds(name, records))
		}
	}

	return answers
}

// kinds says which records a name has.
func kinds(name string, records []dns.RR) dns.RR {
	none := &dns.NSEC{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET | flush, Ttl: timeToLive}, NextDomain: name}
	for _, record := range records {
		if kind := record.Header().Rrtype; !slices.Contains(none.TypeBitMap, kind) {
			none.TypeBitMap = append(none.TypeBitMap, kind)
		}
	}
	slices.Sort(none.TypeBitMap)
	return none
}

// known reports whether the one that asks has an answer already, for half of its life at least (section 7.1).
func known(record dns.RR, known []dns.RR) bool {
	return slices.ContainsFunc(known, func(k dns.RR) bool {
		same := dns.Copy(k)
		same.Header().Class |= flush
		return k.Header().Ttl >= timeToLive/2 && dns.IsDuplicate(same, record)
	})
}

// ordinary are records for a resolver that knows nothing of multicast.
func ordinary(records []dns.RR) (plain []dns.RR) {
	for _, record := range records {
		if record.Header().Rrtype == dns.TypeNSEC {
			continue // the answer has no records, which says it
		}
		r := dns.Copy(record)
		r.Header().Class, r.Header().Ttl = dns.ClassINET, ordinaryLife
		plain = append(plain, r)
	}
	return plain
}
