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
	"sync/atomic"
	"testing"
	"time"

	"padlock/config"
	"padlock/proxy/message"
)

// service answers with its name, fails when it is told to, and holds requests for /hold until it is let go.
type service struct {
	address string
	sick    atomic.Bool
	asked   atomic.Int64
	held    chan struct{}
}

func serve(t *testing.T, name string) *service {
	t.Helper()
	s := &service{held: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		switch {
		case s.sick.Load():
			w.WriteHeader(500)
		case r.URL.Path == "/hold":
			<-s.held
		}
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(server.Close)
	s.address = strings.TrimPrefix(server.URL, "http://")
	return s
}

func request(client string, fields ...message.Field) *message.Request {
	return &message.Request{Method: "GET", Scheme: "http", Host: "h", Target: "/", Proto: "HTTP/1.1", Fields: fields, Conn: &message.Conn{Client: client}, Client: client}
}

func (g *Group) ask(r *message.Request, a *Attempt) (string, error) {
	response, err := g.RoundTrip(new(message.Context), r, ignored{}, a)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func TestSharesFollowWeights(t *testing.T) {
	t.Parallel()
	a, b, c := serve(t, "a"), serve(t, "b"), serve(t, "c")
	for _, balance := range []string{"round_robin", "random", "least_conn", "hash"} {
		u := config.Upstream{Balance: balance, HashBy: "address", Retry: config.Retry{Attempts: 1}}
		for i, s := range []*service{a, b, c} {
			target, _ := config.ParseTarget("http://" + s.address)
			u.To = append(u.To, config.Backend{Target: target, Weight: []int{5, 3, 2}[i]})
		}
		g, err := (&Targets{}).Group(&u, config.Timeouts{Connect: 5 * time.Second, ResponseHeader: config.Patience(5 * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for i := range 2000 {
			var at Attempt
			name, err := g.ask(request(fmt.Sprint("192.0.2.", i)), &at)
			if err != nil {
				t.Fatal(err)
			}
			at.End()
			count[name]++
		}
		g.Close()
		if balance == "least_conn" { // one at a time: the heaviest is always the least loaded for its weight
			if count["a"] != 2000 {
				t.Errorf("%s: %v", balance, count)
			}
			continue
		}
		for name, share := range map[string]int{"a": 1000, "b": 600, "c": 400} {
			if count[name] < share*8/10 || count[name] > share*12/10 {
				t.Errorf("%s: %v", balance, count)
			}
		}
	}
}

// A key stays at its target when another is taken away.
func TestAHashMovesOnlyWhatItMust(t *testing.T) {
	all := []*service{serve(t, "a"), serve(t, "b"), serve(t, "c"), serve(t, "d")}
	place := func(n int) map[string]string {
		var to []string
		for _, s := range all[:n] {
			to = append(to, s.address)
		}
		g := newGroup(t, &Targets{}, config.Upstream{Balance: "hash", HashBy: "cookie:user"}, to...)
		where := map[string]string{}
		for i := range 200 {
			var a Attempt
			key := fmt.Sprint("u", i)
			name, err := g.ask(request("192.0.2.1", message.Field{Name: "Cookie", Value: "x=1; user=" + key}), &a)
			if err != nil {
				t.Fatal(err)
			}
			a.End()
			where[key] = name
		}
		return where
	}
	four, three := place(4), place(3)
	for key, name := range four {
		if name != "d" && three[key] != name {
			t.Errorf("%s moved from %s to %s", key, name, three[key])
		}
	}
}

func TestACookieKeepsAClientAtItsTarget(t *testing.T) {
	a, b := serve(t, "a"), serve(t, "b")
	g := newGroup(t, &Targets{}, config.Upstream{Sticky: "lb"}, a.address, b.address)
	var first Attempt
	name, err := g.ask(request("192.0.2.1"), &first)
	if err != nil || !strings.HasPrefix(first.Cookie, "lb=") || strings.Contains(first.Cookie, "127.0.0.1") {
		t.Fatalf("%v, cookie %q", err, first.Cookie)
	}
	first.End()
	value, _, _ := strings.Cut(first.Cookie, ";")
	for range 10 {
		var again Attempt
		got, err := g.ask(request("192.0.2.1", message.Field{Name: "Cookie", Value: value}), &again)
		if err != nil || got != name || again.Cookie != "" {
			t.Fatalf("%q, %v, cookie %q", got, err, again.Cookie)
		}
		again.End()
	}
}

// A sticky cookie is made with a key: who does not have it can neither find out which address a cookie stands for, nor make one. Nodes with
// the same key, and one that has started again, make and take the same cookies.
func TestStickyCookiesAreKeyed(t *testing.T) {
	t.Parallel()
	a, b := serve(t, "a"), serve(t, "b")
	stick := func(g *Group, with string) (name, cookie string) {
		t.Helper()
		var one Attempt
		var fields []message.Field
		if with != "" {
			fields = append(fields, message.Field{Name: "Cookie", Value: "lb=" + with})
		}
		name, err := g.ask(request("192.0.2.1", fields...), &one)
		if err != nil {
			t.Fatal(err)
		}
		one.End()
		value, _, _ := strings.Cut(one.Cookie, ";")
		return name, strings.TrimPrefix(value, "lb=")
	}
	groups := map[string]*Group{}
	for what, key := range map[string]*[32]byte{"one": {1}, "another node": {1}, "another key": {2}, "no key": nil, "no key again": nil} {
		targets := &Targets{}
		if key != nil {
			targets.SetStickyKey(*key)
		}
		groups[what] = newGroup(t, targets, config.Upstream{Sticky: "lb"}, a.address, b.address)
	}
	name, cookie := stick(groups["one"], "")
	for range 4 {
		if got, again := stick(groups["another node"], cookie); got != name || again != "" {
			t.Errorf("another node sends the client from %s to %s, with the cookie %q", name, got, again)
		}
	}
	for _, what := range []string{"another key", "no key", "no key again"} {
		if _, again := stick(groups[what], cookie); again == "" || again == cookie {
			t.Errorf("with %s, the cookie is taken, or is the same: %q", what, again)
		}
	}
	plain := hash("http://" + a.address)
	for _, guess := range []string{fmt.Sprintf("%016x", mix(plain)), fmt.Sprintf("%016x", plain), fmt.Sprintf("%032x", mix(plain)), strings.Repeat("0", 32)} {
		if _, again := stick(groups["one"], guess); again == "" || strings.Contains(again, guess) {
			t.Errorf("a guessed cookie is taken: %s", guess)
		}
	}
	late := groups["no key"] // the storage was away at its start
	late.targets.SetStickyKey([32]byte{1})
	if got, again := stick(late, cookie); got != name || again != "" {
		t.Errorf("once it has the key, the node sends the client from %s to %s", name, got)
	}
}

// A target is left alone while it does not answer as it should, and comes back by and by.
func TestHealthLeavesOutAndSlowlyTakesBack(t *testing.T) {
	t.Parallel()
	a, b := serve(t, "a"), serve(t, "b")
	health := &config.Health{Path: "/", Status: "200-299", Interval: 100 * time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 2, SlowStart: 2 * time.Second}
	g := newGroup(t, &Targets{}, config.Upstream{Health: health}, a.address, b.address)
	late := serve(t, "late") // was not there at first: one good answer is enough then, and its share is whole
	late.sick.Store(true)
	other := newGroup(t, &Targets{}, config.Upstream{Health: health}, late.address)
	soon(t, "asked", func() string { return fmt.Sprint(a.asked.Load() > 1 && b.asked.Load() > 1) }, "true")
	soon(t, "late", func() string { return other.get(t) }, ErrUnhealthy.Error())
	late.sick.Store(false)
	soon(t, "late, well", func() string { return other.get(t) }, "late")
	if share := other.current.Load().members[0].target.share(); share != 1 {
		t.Errorf("a target that was late has a share of %v", share)
	}
	a.sick.Store(true)
	soon(t, "sick", func() string { return g.spread(t, 8) }, "map[b:8]")
	b.sick.Store(true)
	soon(t, "both sick", func() string { return g.get(t) }, ErrUnhealthy.Error())
	b.sick.Store(false)
	soon(t, "one well again", func() string { return g.spread(t, 8) }, "map[b:8]")
	time.Sleep(2 * time.Second) // it has its whole share
	a.sick.Store(false)
	early := 0
	for deadline := time.Now().Add(5 * time.Second); early == 0 && time.Now().Before(deadline); {
		if g.get(t) == "a" {
			early++
		}
	}
	for range 200 {
		if g.get(t) == "a" {
			early++
		}
	}
	if early > 60 {
		t.Errorf("the target that has come back got %d of 200 requests at once", early)
	}
	soon(t, "its whole share", func() string { return g.spread(t, 100) }, "map[a:50 b:50]")
}

// A target gets as many requests at once as it may; others wait in a line of bounded length, for a bounded time.
func TestACircuitHoldsBackWhatIsTooMuch(t *testing.T) {
	a := serve(t, "a")
	g := newGroup(t, &Targets{}, config.Upstream{Circuit: config.Circuit{Requests: 2, Pending: 3, Wait: 5 * time.Second}}, a.address)
	results := make(chan string, 16)
	var all sync.WaitGroup
	hold := func(client string) {
		all.Go(func() {
			var at Attempt
			defer at.End()
			r := request(client)
			r.Target = "/hold"
			name, err := g.ask(r, &at)
			results <- fmt.Sprint(name, err)
		})
	}
	hold("192.0.2.1")
	hold("192.0.2.2")
	soon(t, "two are there", func() string { return fmt.Sprint(a.asked.Load()) }, "2")
	for range 3 {
		hold("192.0.2.1")
	}
	soon(t, "three wait", func() string { return fmt.Sprint(g.queue.count.Load()) }, "3")
	if got := g.get(t); got != ErrFull.Error() {
		t.Errorf("one more: %s", got)
	}
	if a.asked.Load() != 2 {
		t.Errorf("the target got %d at once", a.asked.Load())
	}
	close(a.held)
	all.Wait()
	close(results)
	for result := range results {
		if result != "a<nil>" {
			t.Error(result)
		}
	}
	g = newGroup(t, &Targets{}, config.Upstream{Circuit: config.Circuit{Requests: 1, Pending: 1, Wait: 100 * time.Millisecond}}, serve(t, "b").address)
	m, err := g.acquire(new(message.Context), request("192.0.2.1"), g.filter(request("192.0.2.1")))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if got := g.get(t); got != ErrFull.Error() || time.Since(began) < 100*time.Millisecond || time.Since(began) > 3*time.Second {
		t.Errorf("%s after %v", got, time.Since(began))
	}
	m.target.leave(&filter{})
}

// Retries stay a part of the requests: when everything fails, what is left is not flooded.
func TestRetriesAreABudgetedPartOfRequests(t *testing.T) {
	var attempts atomic.Int64
	var to []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				attempts.Add(1)
				_, _ = c.Read(make([]byte, 1024))
				c.Close()
			}
		}()
		to = append(to, l.Addr().String())
	}
	g := newGroup(t, &Targets{}, config.Upstream{}, to...)
	for range 200 {
		if got := g.get(t); !strings.HasPrefix(got, "target ") {
			t.Fatal(got)
		}
	}
	if n := attempts.Load(); n < 200+10 || n > 200+10+40+3 {
		t.Errorf("%d attempts for 200 requests, with ten retries at first and a fifth of the requests", n)
	}
}

// What may have been acted on is not sent again.
func TestOnlyWhatIsSafeIsSentAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // takes requests, and answers none
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1024))
			c.Close()
		}
	}()
	for method, safe := range map[string]bool{"GET": true, "PUT": true, "DELETE": true, "POST": false, "PATCH": false} {
		g := newGroup(t, &Targets{}, config.Upstream{}, l.Addr().String(), serve(t, "b").address)
		failed := 0
		for range 10 {
			var a Attempt
			r := request("192.0.2.1")
			r.Method = method
			if _, err := g.ask(r, &a); err != nil {
				var failure *Error
				if !errors.As(err, &failure) {
					t.Fatal(err)
				}
				failed++
			}
			a.End()
		}
		if safe && failed > 0 || !safe && failed != 3 { // then the target is left out
			t.Errorf("%s: %d of 10 failed", method, failed)
		}
	}
}

// The choice of a target costs no allocation.
func TestChoosingAllocatesNothing(t *testing.T) {
	for _, balance := range []string{"round_robin", "least_conn", "random", "hash"} {
		g := newGroup(t, &Targets{}, config.Upstream{Balance: balance, HashBy: "address"}, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
		r := request("192.0.2.1")
		if n := testing.AllocsPerRun(1000, func() {
			m, err := g.acquire(nil, r, filter{})
			if err != nil {
				t.Fatal(err)
			}
			m.target.leave(&filter{})
		}); n != 0 {
			t.Errorf("%s: %v allocations", balance, n)
		}
	}
}

func BenchmarkChoosing(b *testing.B) {
	for _, balance := range []string{"round_robin", "least_conn", "random", "hash"} {
		b.Run(balance, func(b *testing.B) {
			u := config.Upstream{Balance: balance, HashBy: "address"}
			for i := range 3 {
				target, _ := config.ParseTarget(fmt.Sprint("http://127.0.0.1:", i+1))
				u.To = append(u.To, config.Backend{Target: target})
			}
			g, err := (&Targets{}).Group(&u, config.Timeouts{})
			if err != nil {
				b.Fatal(err)
			}
			defer g.Close()
			r := request("192.0.2.1")
			b.ReportAllocs()
			for b.Loop() {
				m, _ := g.acquire(nil, r, filter{})
				m.target.leave(&filter{})
			}
		})
	}
}

type gone struct{}

func (gone) Interim(int, message.Fields) error {
	return &message.InterimError{Err: io.ErrClosedPipe}
}

// A client that has gone when an interim response comes is no failure of the target, and no reason to ask another.
func TestAClientThatTakesNoInterimResponseIsNoFailure(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	var addresses []string
	for range 2 {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			w.Header().Set("Link", "</x>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
		}))
		server.Config.Protocols = protocols
		server.Start()
		t.Cleanup(server.Close)
		addresses = append(addresses, strings.TrimPrefix(server.URL, "http://"))
	}
	for _, protocol := range []string{"http1", "http2"} {
		asked.Store(0)
		g := newGroup(t, &Targets{}, config.Upstream{Protocol: protocol}, addresses...)
		for range 8 {
			var a Attempt
			_, err := g.RoundTrip(new(message.Context), request("192.0.2.1"), gone{}, &a)
			if !errors.As(err, new(*message.InterimError)) {
				t.Errorf("%s: %v", protocol, err)
			}
			a.End()
		}
		if n := asked.Load(); n != 8 {
			t.Errorf("%s: the targets were asked %d times", protocol, n)
		}
		for _, m := range g.current.Load().members {
			if m.target.ejected() {
				t.Errorf("%s: %s was ejected", protocol, m.target.name)
			}
		}
	}
}
