package outbound_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"padlock/proxy/outbound"
)

// resolver is a DNS server in which every name leads to 127.0.0.1, unless it is in another mood.
func resolver(t *testing.T, mood *atomic.Value) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg)
		answer.SetReply(q)
		switch mood.Load() {
		case "silent":
			return
		case "failing":
			answer.Rcode = dns.RcodeServerFailure
		case "gone":
			answer.Rcode = dns.RcodeNameError
		default:
			if q.Question[0].Qtype == dns.TypeA {
				record, _ := dns.NewRR(q.Question[0].Name + " 1 IN A 127.0.0.1")
				answer.Answer = append(answer.Answer, record)
			}
		}
		_ = w.WriteMsg(answer)
	})}
	served := make(chan error, 1)
	go func() { served <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = server.ShutdownContext(context.Background())
		<-served
	})
	return pc.LocalAddr().String()
}

func TestANameLeadsWhereItLedWhileItCannotBeLookedUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var mood atomic.Value
	mood.Store("failing")
	d := &outbound.Dialer{Network: "tcp", Address: net.JoinHostPort("app.internal", port), Timeout: 8 * time.Second, Resolver: outbound.Resolver([]string{resolver(t, &mood)})}
	try := func() error {
		conn, err := d.Dial(t.Context())
		if err == nil {
			conn.Close()
		}
		return err
	}
	var lookup *net.DNSError
	if err := try(); !errors.As(err, &lookup) {
		t.Errorf("a name that was never found: %v", err)
	}
	mood.Store("well")
	if err := try(); err != nil {
		t.Error(err)
	}
	for _, trouble := range []string{"failing", "silent"} {
		mood.Store(trouble)
		begun := time.Now()
		if err := try(); err != nil || time.Since(begun) > 7*time.Second {
			t.Errorf("%s: %v after %s", trouble, err, time.Since(begun))
		}
	}
	mood.Store("gone")
	if err := try(); !errors.As(err, &lookup) || !lookup.IsNotFound {
		t.Errorf("a name that does not exist any more: %v", err)
	}
}

// The second server is asked where the first does not answer.
func TestServersAreAskedOneAfterTheOther(t *testing.T) {
	var silent, well atomic.Value
	silent.Store("silent")
	well.Store("well")
	r := outbound.Resolver([]string{resolver(t, &silent), resolver(t, &well)})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if found, err := r.LookupNetIP(ctx, "ip4", "app.internal"); err != nil || len(found) != 1 {
		t.Error(found, err)
	}
	if outbound.Resolver(nil) != nil {
		t.Error("without servers it is the system's")
	}
}

func TestAnAddressNeedsNoLookUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &outbound.Dialer{Network: "tcp", Address: l.Addr().String(), Timeout: time.Second}
	conn, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	l.Close()
	if _, err := d.Dial(t.Context()); err == nil {
		t.Error("nobody listens any more")
	}
}

// A server on this machine is found on either loopback address, whatever the system, or another DNS server, makes of localhost.
func TestLocalhostIsBothLoopbackAddresses(t *testing.T) {
	var mood atomic.Value
	mood.Store("gone")
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil { // a machine without IPv6
			t.Log(err)
			continue
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		for _, r := range []*net.Resolver{nil, outbound.Resolver([]string{resolver(t, &mood)}), {PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no DNS server is asked for localhost")
		}}} {
			d := &outbound.Dialer{Network: "tcp", Address: net.JoinHostPort("localhost", port), Timeout: 20 * time.Second, Resolver: r}
			for range 2 {
				conn, err := d.Dial(t.Context())
				if err != nil {
					t.Errorf("%s: %v", address, err)
					continue
				}
				if got := conn.RemoteAddr().String(); got != l.Addr().String() {
					t.Errorf("%s: connected to %s", address, got)
				}
				conn.Close()
			}
		}
	}
	d := &outbound.Dialer{Network: "tcp", Address: "localhost:1", Timeout: 20 * time.Second}
	if _, err := d.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("where nobody listens: %v", err)
	}
}
