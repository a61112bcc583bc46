// Package mdns answers devices on the local network that ask for a name by multicast DNS (RFC 6762).
//
//	r, err := mdns.Announce(ctx, "shop.local")  // nobody else has the name
//	defer r.Close()
//
// Each interface gets its own addresses, as they are when somebody asks. It sends and receives over IPv4 alone:
// every device that asks does so over both.
package mdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
)

var group = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}

const (
	probes     = 3                      // RFC 6762 section 8.1
	probePause = 250 * time.Millisecond // between them, and after the last
	again      = time.Second            // between the announcements of an address (section 8.3)
	followed   = 2 * time.Second        // between looks at the interfaces
	hopLimit   = 255                    // section 11
	maxPacket  = 9000                   // section 17
)

// Taken is the error of a name that another machine has.
type Taken struct {
	Name string
	By   net.Addr
}

func (t *Taken) Error() string {
	host, _, _ := net.SplitHostPort(t.By.String())
	return fmt.Sprintf("%s is the name of %s on this network", t.Name, host)
}

// Responder answers for one name until Close.
type Responder struct {
	name  string // fully qualified, in lower case
	conn  *ipv4.PacketConn
	done  chan struct{}
	ended sync.WaitGroup

	mu    sync.Mutex // of links, and of writes, which choose an interface
	links []link     // whose group has been joined
}

// Announce makes sure that nobody else has a name, and answers for it from then on.
func Announce(ctx context.Context, name string) (*Responder, error) {
	links, err := interfaces()
	if err != nil {
		return nil, err
	}
	conn, err := listen(links)
	if err != nil {
		return nil, fmt.Errorf("multicast DNS: %w", err)
	}

	r := &Responder{name: dns.Fqdn(strings.ToLower(name)), conn: ipv4.NewPacketConn(conn), done: make(chan struct{})}
	// Windows does not support this. There, all interfaces get the addresses of all.
	_ = r.conn.SetControlMessage(ipv4.FlagInterface, true)
	_ = r.conn.SetMulticastTTL(hopLimit)
	_ = r.conn.SetTTL(hopLimit)
	// Programs on this machine must resolve the names, too.
	_ = r.conn.SetMulticastLoopback(true)

	if err := r.refresh(); err != nil {
		conn.Close()
		return nil, err
	}
	if err := r.probe(ctx); err != nil {
		conn.Close()
		return nil, err
	}

	r.ended.Go(r.receive)
	r.ended.Go(r.follow)
	return r, nil
}

// Close takes the name back.
func (r *Responder) Close() {
	r.mu.Lock()
	for _, l := range r.links {
		// A time to live of 0 takes records back (RFC 6762 section 10.1).
		r.send(l, r.response(l.records(r.name, 0)))
	}
	r.mu.Unlock()
	close(r.done)
	r.conn.Close()
	r.ended.Wait()
}

// refresh joins the group on interfaces that are new, and returns whether any has other addresses.
func (r *Responder) refresh() error {
	now, err := interfaces()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range now {
		// An error means that the group is joined already: interfaces are read again and again.
		_ = r.conn.JoinGroup(&net.Interface{Index: l.index, Name: l.name}, group)
	}
	r.links = now
	return nil
}

// follow announces the addresses of interfaces, at first and whenever they are others.
func (r *Responder) follow() {
	announced := map[string]int{} // how often addresses have been announced
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-pause.C:
		}

		// An interface that cannot be read now is read the next time.
		_ = r.refresh()
		pause.Reset(followed)
		seen := map[string]int{}
		r.mu.Lock()
		for _, l := range r.links {
			key := l.String()
			if seen[key] = announced[key]; seen[key] < 2 {
				r.send(l, r.response(l.records(r.name, timeToLive)))
				seen[key]++
				pause.Reset(again)
			}
		}
		r.mu.Unlock()
		announced = seen
	}
}

// receive answers questions until Close.
func (r *Responder) receive() {
	packet := make([]byte, maxPacket)
	for {
		n, about, from, err := r.conn.ReadFrom(packet)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}

		var m dns.Msg
		// Messages with another opcode are ignored (RFC 6762 section 18.3).
		if m.Unpack(packet[:n]) == nil && !m.Response && m.Opcode == dns.OpcodeQuery {
			r.answer(&m, about, from)
		}
	}
}

// answer answers a question for the name, on the interface that it came by.
func (r *Responder) answer(m *dns.Msg, about *ipv4.ControlMessage, from net.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	source, ok := from.(*net.UDPAddr)
	if !ok {
		return
	}

	for _, l := range r.links {
		if about != nil && about.IfIndex != 0 && about.IfIndex != l.index {
			continue
		}

		answers := l.answers(r.name, m)
		switch {
		case len(answers) == 0:
		// An ordinary resolver asks as it would ask any server (RFC 6762 section 6.7).
		case source.Port != group.Port:
			reply := new(dns.Msg).SetReply(m)
			reply.Authoritative, reply.Answer = true, ordinary(answers)
			if packet, err := reply.Pack(); err == nil {
				_, _ = r.conn.WriteTo(packet, &ipv4.ControlMessage{IfIndex: l.index}, source)
			}
		default:
			r.send(l, r.response(answers))
		}
	}
}

// response is a message of answers to nobody in particular.
func (r *Responder) response(answers []dns.RR) *dns.Msg {
	m := &dns.Msg{Answer: answers}
	m.Response, m.Authoritative, m.Compress = true, true, true
	return m
}

// send sends a message to the devices on an interface. It is called with mu locked.
func (r *Responder) send(l link, m *dns.Msg) {
	packet, err := m.Pack()
	if err != nil || len(m.Answer)+len(m.Question) == 0 {
		return
	}
	if r.conn.SetMulticastInterface(&net.Interface{Index: l.index, Name: l.name}) == nil {
		// Devices that miss the announcement ask for the name when they need it.
		_, _ = r.conn.WriteTo(packet, nil, group)
	}
}

// probe asks whether another machine has the name. Two that ask at the same moment both get it: each network has
// few, and people who can talk.
func (r *Responder) probe(ctx context.Context) error {
	packet := make([]byte, maxPacket)
	for range probes {
		question := &dns.Msg{Question: []dns.Question{{Name: r.name, Qtype: dns.TypeANY, Qclass: dns.ClassINET}}}
		r.mu.Lock()
		for _, l := range r.links {
			// The records that are wanted go into the authority section (RFC 6762 section 8.2).
			question.Ns = l.records(r.name, timeToLive)
			r.send(l, question)
		}
		r.mu.Unlock()

		_ = r.conn.SetReadDeadline(time.Now().Add(probePause))
		for {
			n, _, from, err := r.conn.ReadFrom(packet)
			if err != nil {
				break // the time is over
			}
			if r.isOthers(packet[:n]) {
				return &Taken{strings.TrimSuffix(r.name, "."), from}
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}

	return r.conn.SetReadDeadline(time.Time{})
}

// isOthers reports whether a packet says that the name has an address which is none of this machine's.
func (r *Responder) isOthers(packet []byte) bool {
	var m dns.Msg
	if m.Unpack(packet) != nil || !m.Response {
		return false
	}
	for _, record := range m.Answer {
		address := netip.Addr{}
		switch a := record.(type) {
		case *dns.A:
			address, _ = netip.AddrFromSlice(a.A)
		case *dns.AAAA:
			address, _ = netip.AddrFromSlice(a.AAAA)
		}
		if address = address.Unmap(); address.IsValid() && strings.EqualFold(record.Header().Name, r.name) && !isOwn(address) {
			return true
		}
	}

	return false
}
