package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"padlock/config"
	"padlock/proxy/message"
)

// names is a DNS server whose records can be changed.
type names struct {
	mu      sync.Mutex
	records []string
	address string
}

func (n *names) set(records ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records = records
}

func serveNames(t *testing.T, records ...string) *names {
	t.Helper()
	n := &names{records: records}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.address = packets.LocalAddr().String()
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		n.mu.Lock()
		defer n.mu.Unlock()
		m := new(dns.Msg)
		m.SetReply(q)
		for _, text := range n.records {
			r, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
			} else if r.Header().Name == q.Question[0].Name && r.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, r)
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return n
}

// serveAt answers at an address of loopback with its name; all share a port.
func serveAt(t *testing.T, host, port string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, host+" "+r.Host) }))
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func (g *Group) get(t *testing.T) string {
	t.Helper()
	var a Attempt
	defer a.End()
	conn := &message.Conn{Client: "192.0.2.1"}
	r := &message.Request{Method: "GET", Scheme: "http", Host: "h", Target: "/", Proto: "HTTP/1.1", Conn: conn, Client: conn.Client}
	response, err := g.RoundTrip(new(message.Context), r, ignored{}, &a)
	if errors.Is(err, ErrUnhealthy) {
		return ErrUnhealthy.Error() // why, TestWhyATargetIsUnhealthyIsTold looks at
	}
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func newGroup(t *testing.T, targets *Targets, u config.Upstream, to ...string) *Group {
	t.Helper()
	for _, text := range to {
		target, err := config.ParseTarget(text)
		if err != nil {
			t.Fatal(err)
		}
		if target.Scheme == "" {
			target.Scheme = "http"
		}
		u.To = append(u.To, config.Backend{Target: target, Weight: 1})
	}
	u.Retry, u.PassiveHealth = config.Retry{Attempts: 3, Budget: 0.2}, config.PassiveHealth{Failures: 3, Cooldown: time.Second}
	g, err := targets.Group(&u, config.Timeouts{Connect: 5 * time.Second, ResponseHeader: config.Patience(5 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func (g *Group) spread(t *testing.T, n int) string {
	t.Helper()
	count := map[string]int{}
	for range n {
		count[g.get(t)]++
	}
	return fmt.Sprint(count)
}

func soon(t *testing.T, what string, get func() string, want string) {
	t.Helper()
	last := ""
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = get(); last == want {
			return
		}
	}
	t.Fatalf("%s: %s, not %s", what, last, want)
}

// Every address of a name is a target; when the name's time to live is over it is asked for again, and a server that says nothing
// changes nothing.
func TestEveryAddressOfANameIsATarget(t *testing.T) {
	t.Parallel()
	port := serveAt(t, "127.0.0.2", "0")
	serveAt(t, "127.0.0.3", port)
	serveAt(t, "127.0.0.4", port)
	n := serveNames(t, "app.internal. 1 IN A 127.0.0.2", "app.internal. 1 IN A 127.0.0.3")
	targets := &Targets{Resolvers: []string{n.address}}
	g := newGroup(t, targets, config.Upstream{Resolve: "each"}, "app.internal:"+port)
	if got, want := g.spread(t, 10), "map[127.0.0.2 h:5 127.0.0.3 h:5]"; got != want {
		t.Errorf("at first: %s", got)
	}
	// Another group, as a reload makes it, begins with what is known.
	n.mu.Lock() // so that it answers nothing
	again := newGroup(t, targets, config.Upstream{Resolve: "each"}, "app.internal:"+port)
	began := time.Now()
	if got := again.spread(t, 10); got != "map[127.0.0.2 h:5 127.0.0.3 h:5]" || time.Since(began) > 4*time.Second {
		t.Errorf("after a reload: %s, %v", got, time.Since(began)) // whoever asks waits for five seconds
	}
	n.mu.Unlock()
	n.set("app.internal. 1 IN A 127.0.0.4")
	soon(t, "another address", func() string { return g.spread(t, 4) }, "map[127.0.0.4 h:4]")
	n.set()
	time.Sleep(2500 * time.Millisecond)
	if got := g.spread(t, 4); got != "map[127.0.0.4 h:4]" {
		t.Errorf("while nothing is known: %s", got)
	}
}

// SRV records bring hosts, ports and weights; of the priorities the first counts.
func TestSRVRecordsAreTargets(t *testing.T) {
	one, two := serveAt(t, "127.0.0.2", "0"), serveAt(t, "127.0.0.3", "0")
	n := serveNames(t,
		"_web._tcp.internal. 1 IN SRV 10 3 "+one+" a.internal.", "_web._tcp.internal. 1 IN SRV 10 1 "+two+" b.internal.", "_web._tcp.internal. 1 IN SRV 20 9 1 c.internal.",
		"a.internal. 1 IN A 127.0.0.2", "b.internal. 1 IN A 127.0.0.3", "c.internal. 1 IN A 127.0.0.5")
	g := newGroup(t, &Targets{Resolvers: []string{n.address}}, config.Upstream{}, "srv+http://_web._tcp.internal")
	g.UpstreamHost = true
	if got, want := g.spread(t, 12), "map[127.0.0.2 a.internal:"+one+":9 127.0.0.3 b.internal:"+two+":3]"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func TestANameThatLeadsNowhereIsToldSo(t *testing.T) {
	t.Parallel()
	n := serveNames(t)
	g := newGroup(t, &Targets{Resolvers: []string{n.address}}, config.Upstream{Resolve: "each"}, "nowhere.internal:80")
	if got := g.get(t); !strings.Contains(got, "cannot be resolved") {
		t.Error(got)
	}
	n.set("nowhere.internal. 1 IN A 127.0.0.2")
	soon(t, "found", func() string { return fmt.Sprint(strings.Contains(g.get(t), "resolved")) }, "false")
}
