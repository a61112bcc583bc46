package gateway

import (
	"crypto/tls"
	"fmt"
	"testing"

	"padlock/config"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
	"padlock/traffic"
)

// sitesOf is a state with as many sites as asked for, each with rules and three targets.
func sitesOf(t testing.TB, n int) *Routes {
	t.Helper()
	file := "listen: {http: []}\ntrusted_proxies: [10.0.0.0/8]\nsites:\n"
	for i := range n {
		file += fmt.Sprintf(`
  - hosts: [app%d.test]
    hsts: {max_age: 24h}
    headers: {request: {set: {X-Edge: padlock}}, response: {remove: [Server], set: {X-Frame-Options: DENY}}}
    routes:
      - {path: /api/, methods: [GET, POST], to: ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"], balance: least_conn, headers: {request: {set: {X-Request-Id: "{request_id}"}}}}
      - {path: /static/, deny: [192.0.2.0/24], to: "127.0.0.1:1"}
      - {to: ["127.0.0.1:1", "127.0.0.1:2"]}
`, i)
	}
	return stateOf(t, file)
}

func stateOf(t testing.TB, file string) *Routes {
	t.Helper()
	cfg, err := config.Parse("padlock.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	s, err := sites.New(cfg, sites.Options{TLS: &tls.Config{}, Targets: &upstream.Targets{}, Book: new(traffic.Book)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return new(Gateway).Compile(s)
}

// arrived is a request as a browser sends it.
func arrived(name string) (*message.Request, message.Fields) {
	fields := message.Fields{
		{Name: "User-Agent", Value: "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}, {Name: "Accept", Value: "text/html"},
		{Name: "Accept-Language", Value: "en"}, {Name: "Accept-Encoding", Value: "gzip, br"}, {Name: "Cookie", Value: "session=0123456789abcdef"},
		{Name: "X-Forwarded-For", Value: "6.6.6.6"},
	}
	client, addr := message.ClientAddr("203.0.113.9:4711")
	conn := &message.Conn{Remote: "203.0.113.9:4711", Client: client, Addr: addr, TLS: &tls.ConnectionState{Version: tls.VersionTLS13}}
	return &message.Request{Method: "GET", Scheme: "https", Host: name, Target: "/api/orders/17?full=1", Proto: "HTTP/1.1", Conn: conn}, fields
}

// decide is all that padlock decides about a request and its response, but for the choice of a target, which package upstream measures.
func decide(s *Routes, x *Exchange, room message.Fields, fields message.Fields) bool {
	r := x.request
	r.Fields = append(room[:0], fields...)
	x.identify(s.Trusted)
	found, name := s.Hosts("").Site(r.Host)
	if found == nil {
		return false
	}
	x.site, x.name, x.target = found, name, r.Target
	var err error
	x.path, err = paths.Parse(r.Target, found.Paths)
	route, _ := found.Route(r.Method, &x.path, x)
	if err != nil || route == nil || found.Ambiguous(r.Method, &x.path, route, x) || route.Group == nil || !found.Access.Admits(x.addr) || !route.Access.Admits(x.addr) {
		return false
	}
	x.route = route
	_ = (&Gateway{}).prepare(nil, x)
	response := append(room[len(room):], message.Field{Name: "Server", Value: "app"}, message.Field{Name: "Content-Type", Value: "text/html"})
	x.finish(&response)
	return len(response) == 3
}

func rig(s *Routes, name string) (run func() bool) {
	r, fields := arrived(name)
	x := new(Exchange)
	room := make(message.Fields, 32, 64)
	return func() bool {
		*x = Exchange{request: r, id: 7}
		return decide(s, x, room, fields)
	}
}

// What padlock decides costs no allocation, but for the text that a rule of the site makes of the request.
func TestPolicyAllocatesOnlyTheTextsOfRules(t *testing.T) {
	run := rig(sitesOf(t, 20), "app7.test")
	if !run() {
		t.Fatal("the request was not taken")
	}
	if n := testing.AllocsPerRun(1000, func() { run() }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// The first is without any policy: what the others take longer is what policy costs.
func BenchmarkPolicy(b *testing.B) {
	bare := rig(stateOf(b, "sites: [{hosts: [app7.test], routes: [{to: \"127.0.0.1:1\"}]}]"), "app7.test")
	b.Run("none", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bare()
		}
	})
	for _, sites := range []int{20, 10_000} {
		run := rig(sitesOf(b, sites), "app7.test")
		b.Run(fmt.Sprint(sites, " sites"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}

// Of two tables, one with 500 times the sites of the other, neither takes longer to find one in.
func BenchmarkFindingASite(b *testing.B) {
	for _, sites := range []int{20, 10_000} {
		s := sitesOf(b, sites)
		host := fmt.Sprintf("app%d.test:443", sites-1)
		b.Run(fmt.Sprint(sites, " sites"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if found, _ := s.Hosts("").Site(host); found == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
