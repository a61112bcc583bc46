package dnsquery

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// samePort opens a port for UDP that is free for TCP, too.
func samePort(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if tcp, err := net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		udp.Close()
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

// server answers over UDP and TCP, as its handler says.
func server(t *testing.T, answer func(overTCP bool, reply *dns.Msg)) string {
	t.Helper()
	udp, tcp := samePort(t)
	for _, s := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
			reply := new(dns.Msg).SetReply(r)
			answer(s.Listener != nil, reply)
			_ = w.WriteMsg(reply)
		})
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return udp.LocalAddr().String()
}

func record(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// The first server with an answer counts, though it be that there is nothing; what does not fit into a packet is fetched over TCP.
func TestTheFirstAnswerCounts(t *testing.T) {
	var asked atomic.Int32
	broken := server(t, func(_ bool, r *dns.Msg) { asked.Add(1); r.Rcode = dns.RcodeServerFailure })
	long := server(t, func(overTCP bool, r *dns.Msg) {
		if r.Truncated = !overTCP; overTCP {
			r.Answer = append(r.Answer, record(t, "a.test. 60 IN A 192.0.2.1"))
		}
	})
	nothing := server(t, func(_ bool, r *dns.Msg) { r.Rcode = dns.RcodeNameError })
	never := server(t, func(bool, *dns.Msg) { t.Error("asked, although there is an answer") })

	if found, err := Ask(t.Context(), []string{broken, long, never}, "a.test", dns.TypeA); err != nil || len(found) != 1 || asked.Load() != 1 {
		t.Errorf("%v, %v", found, err)
	}
	if found, err := Ask(t.Context(), []string{nothing, never}, "a.test", dns.TypeA); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := Ask(t.Context(), []string{broken}, "a.test", dns.TypeA); err == nil || !strings.Contains(err.Error(), "a.test: the DNS server "+broken+" answers SERVFAIL") {
		t.Error(err)
	}
	if _, err := Ask(t.Context(), nil, "a.test", dns.TypeA); err == nil {
		t.Error("nobody was asked")
	}
}
