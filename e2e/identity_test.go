//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"padlock/internal/otlptest"
	"padlock/internal/servicetest"
)

var (
	idRequests = flag.Int("identity", 50_000, "requests of TestIdentity")
	idSeed     = flag.Uint64("identity-seed", 0, "seed of TestIdentity; 0: any, which is printed")
	idLives    = flag.Int("identity-lives", 0, "padlocks that TestIdentity runs, one after the other; 0: one for 10,000 requests, or for 100,000 of the whole product")
	idOnly     = flag.String("identity-only", "", "members that TestIdentity is about, such as \"h2c; 103\"")
	idWhole    = flag.Bool("identity-whole", false, "TestIdentity over the whole product, and not over the routes that make all pairs")
)

// identity is one run of the harness. Markers that it has given out stand for requests; whoever sees one, in whatever text, can tell
// whether it belongs there.
type identity struct {
	t         *testing.T
	seed      uint64
	product   idProduct
	whole     *idProduct      // what -identity-whole asks for
	rows      [4][2][]idCombo // that make all pairs, by front and room
	room      uint8           // of this life
	always    [4][]int        // routes of the rows, which each life has, by site: the first has all
	routes    []int           // of this life, and the first site
	part      idPart          // of this life
	users     []*idUser
	lives     int
	roots     *x509.CertPool
	address   string
	plain     string            // address of plain HTTP
	apps      map[string]string // by target and name
	collector *otlptest.Collector

	certificate tls.Certificate // of the https targets
	ca, clients string          // files: what they are verified by, and clients
	credentials idCredentials
	service     string // URL of what forward_auth asks, and pages of errors come from
	files       string // directory, with files of each user
	page        string // file of the errors of the site

	jobs                []atomic.Pointer[idJob]
	numbers             atomic.Int64
	turns               [4][2]atomic.Int64 // of rows, by front and room
	checked, departures atomic.Int64
	quota               atomic.Int64    // of numbers, for this life
	end                 atomic.Bool     // the life ends: clients are cut
	dead                atomic.Bool     // nobody serves any more
	serving             context.Context // of this life: ends a moment after dead
	faults              atomic.Int32
	began               atomic.Int64 // when the life has, in Unix nanoseconds
	restarted           atomic.Int64 // when, in Unix nanoseconds
	counters            atomic.Int64 // padlocks of the life, each of which counts what limits count
	version             atomic.Int64 // of the configuration, as clients see it
	awaited             atomic.Int64 // version that they have to see, however many requests the life has had
	failures            sync.Map     // markers of requests that were reported
	lines, spans        int          // that were looked at
	told                time.Time    // when progress was last reported
	toldAt              int64        // the requests at that time

	mu     sync.Mutex
	pairs  map[pair]bool // that have met
	seen   map[idCombo]bool
	combos map[idCombo]bool // of the whole product
	count  map[string]int
}

// Nobody ever gets what is another's. Every request carries a marker of its own in its path, query, host, fields, content and trailers;
// targets hold what they see against what the marker stands for and send it back, and clients do the same; so do lines of the access log
// and spans. Every front meets every kind of target, with everything that a route can do, while clients leave at any moment, the
// configuration is read again, another padlock takes over, and padlock ends in the middle of all that.
func TestIdentity(t *testing.T) {
	works(t)
	h := newIdentity(t)
	file := filepath.Join(t.TempDir(), "padlock.yaml")
	home := t.TempDir()
	began := time.Now()
	h.told = began
	for life := 0; life < h.lives && !t.Failed(); life++ {
		h.live(file, home, life)
	}
	took := time.Since(began)
	t.Logf("%d requests were checked and %d broken off in %s, %.0f a second; %d lines and %d spans; %v",
		h.checked.Load(), h.departures.Load(), took.Round(time.Second), float64(h.numbers.Load())/took.Seconds(), h.lines, h.spans, h.count)
	if t.Failed() {
		t.Logf("the same again: -identity-seed %d", h.seed)
		return
	}
	for one := range h.product.pairs() {
		if !h.pairs[one] {
			t.Errorf("%s has never met %s", idMembers[one.f][one.a], idMembers[one.g][one.b])
		}
	}
	h.demand("records", idInspect, 1)
	h.demand("copies", idMirror, 1)
	h.demand("questions", idAuth, authForward)
	h.demand("pages", idDoes, doesError)
	if *idWhole {
		t.Logf("%d of %d combos", len(h.combos), h.whole.size())
	}
	if h.insists() && len(h.combos) < h.whole.size() {
		t.Error("that is not the whole product")
	}
}

// demand fails the test where a member was asked for, and what it brings about has never been seen.
func (h *identity) demand(what string, f idFactor, member uint8) {
	if slices.Contains(h.product.members[f], member) && h.count[what] == 0 {
		h.t.Errorf("%s: no %s", idMembers[f][member], what)
	}
}

func newIdentity(t *testing.T) *identity {
	h := &identity{
		t: t, seed: *idSeed, pairs: map[pair]bool{}, seen: map[idCombo]bool{}, combos: map[idCombo]bool{}, count: map[string]int{}, collector: otlptest.Start(t), lives: *idLives,
	}
	if h.lives == 0 {
		perLife := 10_000
		if *idWhole {
			perLife = 100_000 // a padlock with hundreds of routes takes long to start and to reload under the race detector
		}
		h.lives = max(2, *idRequests/perLife)
	}
	if h.seed == 0 {
		h.seed = rand.Uint64()>>1 | 1
	}
	t.Logf("-identity-seed %d", h.seed)
	rng := rand.New(rand.NewPCG(h.seed, 0))
	var err error
	if h.product, err = newProduct(*idOnly); err != nil {
		t.Fatal(err)
	}
	h.whole = h.product.whole()
	h.plan(rng)
	h.jobs = make([]atomic.Pointer[idJob], 2**idRequests+10_000) // the end of a life takes some more, and so does a front that is slower than the others
	h.certify()
	h.enrol()
	h.writeFiles()
	service := httptest.NewServer(idService{h})
	t.Cleanup(service.Close)
	h.service = service.URL
	h.apps = h.startApps(t)
	h.address, h.plain = fmt.Sprintf("127.0.0.1:%d", servicetest.FreePort(t)), fmt.Sprintf("127.0.0.1:%d", servicetest.FreePort(t))
	return h
}

// plan chooses combos that make all pairs, and the routes that they need.
func (h *identity) plan(rng *rand.Rand) {
	used := [4]map[int]bool{{}, {}, {}, {}}
	for _, row := range h.product.cover(rng) {
		rows := &h.rows[row[idFront]][row[idRoom]]
		*rows = append(*rows, row)
		used[0][row.route()], used[row.site()][row.route()] = true, true
	}
	for site := range used {
		h.always[site] = slices.Sorted(maps.Keys(used[site]))
	}
	h.part.offset = rng.IntN(h.whole.size())
}

// certify makes users and their certificates.
func (h *identity) certify() {
	t := h.t
	served, clients := newAuthority(t, "targets", nil), newAuthority(t, "clients", nil)
	h.ca = write(t, "targets.pem", string(pemOf("CERTIFICATE", served.cert.Raw)))
	h.clients = write(t, "clients.pem", string(pemOf("CERTIFICATE", clients.cert.Raw)))
	leaf := &x509.Certificate{DNSNames: []string{"target.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, key := sign(t, leaf, served, nil)
	h.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}

	for n := range 40 {
		u := &idUser{h: h, number: n, name: fmt.Sprintf("user-%d.localhost", n), conns: map[net.Conn]bool{}}
		if n%3 != 0 {
			u.sessions = tls.NewLRUClientSessionCache(4)
		}
		if n%4 != 0 {
			der, key := sign(t, &x509.Certificate{
				Subject: pkix.Name{CommonName: u.name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}, clients, nil)
			u.certificate = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
		}
		h.users = append(h.users, u)
	}
}

// configure writes the configuration of a life; version is in every response.
func (h *identity) configure(file, log string, life, version int) {
	var b strings.Builder
	fmt.Fprintf(&b, `
listen: {https: [%q], http: [%q]}
trusted_proxies: [192.0.2.1] # nobody
handshakes: {show: "off"}
access_log: {format: json, output: %q, headers: [X-Marker, X-Key, X-Long, Referer, Baggage, Cookie], rotate: {max_size_mib: 4096, keep: 2}}
timeouts: {handover: 20s, shutdown: 5s, handshake: 40s, header: 40s, connect: 40s, body_idle: 40s}
limits: {buffers: %s}
sites:
`, h.address, h.plain, log, []string{"256MiB", "64KiB"}[h.room])
	replaceFile(h.t, h.page, fmt.Sprintf("%s%d\n", errorOfSite, version))
	asks := fmt.Sprintf("tls: {client_auth: {mode: optional-verify, ca: %q}}", h.clients)
	const plain = "http: serve"
	b.WriteString(h.site("*.localhost", asks, h.routes, version))
	// The others have only what makes pairs there, as more would take longer to read.
	b.WriteString(h.site("*.plain.test", plain, h.always[1], version))
	b.WriteString(h.site("*.inspected.localhost", asks+"\n    "+inspection(life), h.always[2], version))
	b.WriteString(h.site("*.inspected.test", plain+"\n    "+inspection(life), h.always[3], version))
	if traced(life) {
		fmt.Fprintf(&b, "tracing: {endpoint: %q, sample: 0.1}\n", h.collector.URL)
	}
	replaceFile(h.t, file, b.String())
}

func traced(life int) bool { return life%3 != 0 }

// site is one with those routes.
func (h *identity) site(hosts, settings string, routes []int, version int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
  - hosts: [%q]
    %s
    errors: {4xx: %q, 5xx: %q, 404: "%s/page/{status}"}
    intercept: [404, 500]
    headers:
      request: {remove: [X-Taken-Away], set: {X-Site-Request: of the site}}
      response: {remove: [X-Removed], set: {X-Site-Response: "{method} {uri}", X-Version: "%d"}}
    routes:
`, hosts, settings, h.page, h.page, h.service, version)
	fmt.Fprintf(&b, "      - {path: /version-%d, respond: {status: 200}}\n", version)
	for _, n := range routes {
		c := routeOf(n)
		for _, side := range c.sides() {
			fmt.Fprintf(&b, "      - {%s}\n", h.route(c, side))
		}
	}
	return b.String()
}

// route is one of a combo's, for requests that chose this side.
func (h *identity) route(c idCombo, side string) string {
	if c.files() {
		return h.filesRoute(c, side)
	}

	scheme := idMembers[idTarget][c[idTarget]]
	names := [][]string{{"first"}, {"first", "second"}, {"first", "dying", "dead"}, {"first", "second", "dying", "dead"}}[c[idGroup]]
	var to []string
	for _, name := range names {
		to = append(to, strconv.Quote(h.apps[scheme+" "+name]))
	}
	parts := []string{
		"path: " + idPrefix(c), "to: [" + strings.Join(to, ", ") + "]",
		[]string{"", "strip_prefix: true", "replace_prefix: /put/in/its/place"}[c[idRewrite]],
		[]string{"", "buffer: {request: 16KiB}", "buffer: {response: 16KiB}", "buffer: {request: 16KiB, response: 16KiB}"}[c[idBuffer]],
		[]string{"", "handshake_header: true", "forwarded: true", "host: inner.test", "rewrite_urls: true"}[c[idTells]],
	}
	if c.sticky() {
		parts = append(parts, "sticky: stick")
	}
	if c.dying() {
		parts = append(parts, `passive_health: "off"`, "retry: {attempts: 4, budget: 1}")
	}
	if scheme == "https" || scheme == "h2" {
		parts = append(parts, fmt.Sprintf("ca: %q, server_name: target.test", h.ca))
	}
	if c.onlyHTTP2() {
		parts = append(parts, "protocol: http2")
	}
	if c[idWeb] == 1 {
		parts = append(parts, "grpc_web: true")
	}
	parts = append(parts, h.copies(c))
	return joined(append(parts, h.common(c, side)...))
}

// onlyHTTP2 reports whether the target's protocol is not agreed on.
func (c idCombo) onlyHTTP2() bool { return c[idTarget] == targetH2 && c.draw("protocol", 2) == 1 }

// filesRoute has what routes with files can have.
func (h *identity) filesRoute(c idCombo, side string) string {
	return joined(append(h.common(c, side), "path: "+idPrefix(c), "strip_prefix: true", fmt.Sprintf("files: {root: %q}", h.files)))
}

// limits count each user's requests, by what all of them have.
var limits = []string{"", "rate_limit: {requests: 10000, per: 720h, by: %s}", "rate_limit: {requests: 20, per: 1s, by: %s}"}

// limitedBy is by what requests are counted, which the route draws.
func (c idCombo) limitedBy() string {
	by := []string{"header:X-Key", "cookie:session", "user"}
	if c.auth(0) || c.auth(authBasic) { // an account has several users
		by = by[:2]
	}
	return by[c.draw("limit", len(by))]
}

// most is how many requests a counted user may send.
const most = 10_000

// another is how long it takes until a counted user may send another.
const another = 720 * time.Hour / most

// common is what every kind of route can have.
func (h *identity) common(c idCombo, side string) (parts []string) {
	parts = append(parts, c.condition(side))
	if c.compress() {
		parts = append(parts, `compress: {types: ["text/*", "application/*"], min: 100, level: fast}`)
	}
	if c[idLimit] > 0 {
		parts = append(parts, fmt.Sprintf(limits[c[idLimit]], "'"+c.limitedBy()+"'"))
	}
	if c.cors() {
		parts = append(parts, `cors: {origins: ["https://*.from.test"], credentials: true, expose: [X-Echo]}`)
	}
	parts = append(parts, h.access(c))

	chosen := idChosenField + ": " + strconv.Quote(side)
	if !c.rules() {
		return append(parts, "headers: {response: {set: {"+chosen+"}}}")
	}
	rules := func(message string, set ...string) string {
		for _, v := range idVariables {
			set = append(set, fmt.Sprintf("%s: \"{%s}\"", varied(message, v), v))
		}
		return "{set: {" + strings.Join(set, ", ") + "}, add: {X-Added: \"{path}?{query} of {host}\"}}"
	}
	return append(parts, "headers: {request: "+rules("Request")+", response: "+rules("Response", chosen)+"}")
}

func joined(parts []string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// live is a padlock's life, from its start to a SIGTERM that comes while everybody is there.
func (h *identity) live(file, home string, life int) {
	t := h.t
	h.divide(life)
	h.room = h.product.members[idRoom][life%len(h.product.members[idRoom])]
	log := filepath.Join(t.TempDir(), "access.log")
	h.configure(file, log, life, 0)
	p := &padlock{home: home, storage: filepath.Join(home, ".local", "share", "padlock")}
	c := command(home, "run", "--config", file)
	c.Env = append(c.Env, "OTEL_BSP_SCHEDULE_DELAY=500")
	p.run(t, c)
	if h.roots == nil {
		h.roots = p.roots(t)
	}

	before := h.numbers.Load()
	share := (int64(*idRequests) - before) / int64(h.lives-life)
	h.quota.Store(before + share)
	h.began.Store(time.Now().UnixNano())
	h.counters.Store(1)
	for _, u := range h.users {
		u.left.Clear()
	}
	h.version.Store(0)
	h.awaited.Store(0)
	h.end.Store(false)
	h.dead.Store(false)
	var silence context.CancelFunc
	h.serving, silence = context.WithCancel(context.Background())
	defer silence()
	var clients sync.WaitGroup
	h.inspect(p, &clients, life)
	h.everybody(&clients, life)
	pids := h.disturb(p, file, log, life, before, share)

	// The end comes in the middle of traffic: clients only stop when nobody listens any more.
	h.end.Store(true)
	for _, pid := range pids[1:] {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	err := p.end(syscall.SIGTERM)
	for _, pid := range pids[1:] {
		end(t, pid)
	}
	h.dead.Store(true)
	// What has come by UDP is read first.
	defer time.AfterFunc(time.Second, silence).Stop()
	clients.Wait()
	h.verdict(p, err)
	h.readLog(log)
	h.readSpans()
	h.forget(before, log)
}

// forget keeps of a life's requests what their markers stand for.
func (h *identity) forget(before int64, log string) {
	for n := before; n < min(h.numbers.Load(), int64(len(h.jobs))); n++ {
		if j := h.jobs[n].Load(); j != nil {
			h.jobs[n].Store(&idJob{combo: j.combo, marker: j.marker, user: j.user, method: j.method, target: j.target})
		}
	}
	if err := os.Remove(log); err != nil {
		h.t.Error(err)
	}
}

// everybody starts the clients.
func (h *identity) everybody(clients *sync.WaitGroup, life int) {
	stream := uint64(life) << 32
	work := func(run func(*rand.Rand)) {
		stream++
		rng := rand.New(rand.NewPCG(h.seed, stream))
		clients.Go(func() { run(rng) })
	}
	for n, u := range h.users {
		switch {
		case n < 5:
			work((&idOne{u: u, front: frontPlain}).run)
		case n < 26:
			work((&idOne{u: u, front: front1}).run)
		case n < 34:
			m, all := u.two(), new(sync.WaitGroup)
			for range 3 {
				all.Add(1)
				work(func(rng *rand.Rand) { defer all.Done(); m.run(rng) })
			}
			clients.Go(func() { all.Wait(); m.close() })
		default:
			m, all := u.three(), new(sync.WaitGroup)
			for range 2 {
				all.Add(1)
				work(func(rng *rand.Rand) { defer all.Done(); m.run(rng) })
			}
			clients.Go(func() { all.Wait(); m.close() })
		}
	}
}

// restarts reports whether another padlock takes over in a life.
func restarts(life int) bool { return life%2 == 0 }

// idReloads are those of a life. After each, passwords are compared anew, which is slow on purpose.
const idReloads = 4

// disturb reads the configuration again and again, and has another padlock take over in every second life, until the life's requests
// are used up. It returns the processes.
func (h *identity) disturb(p *padlock, file, log string, life int, before, share int64) []int {
	pids := []int{p.pid}
	restart := restarts(life)
	version := 0
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for (h.numbers.Load() < before+share || h.owes(front1) || h.owes(front2) || h.owes(front3)) && h.faults.Load() == 0 {
		<-tick.C
		h.progress(life)
		current := pids[len(pids)-1]
		if !running(current) {
			p.stderr.mu.Lock()
			h.t.Errorf("padlock %v has ended by itself:\n%s", pids, p.stderr.text.String())
			p.stderr.mu.Unlock()
			return pids
		}
		switch {
		case restart && h.numbers.Load() > before+share/3:
			restart = false
			version++
			h.configure(file, log, life, version)
			h.counters.Store(2)
			h.restarted.Store(time.Now().UnixNano())
			h.note("restarts")
			if err := syscall.Kill(current, syscall.SIGUSR2); err != nil {
				h.t.Error(err)
			}
			pid := successor(p)
			if pid == 0 {
				h.t.Errorf("no other padlock has taken over")
				return pids
			}
			pids = append(pids, pid)
			for h.awaited.Store(int64(version)); h.version.Load() < int64(version) && running(pid) && h.faults.Load() == 0; {
				<-tick.C // until it serves
			}
		case h.numbers.Load() > before+share*int64(version+1)/(idReloads+1):
			version++
			h.configure(file, log, life, version)
			h.note("reloads")
			if err := syscall.Kill(current, syscall.SIGHUP); err != nil {
				h.t.Error(err)
			}
		}
	}
	return pids
}

// progress tells now and then how far the run is.
func (h *identity) progress(life int) {
	took := time.Since(h.told)
	if took < 30*time.Second {
		return
	}

	n := h.numbers.Load()
	h.t.Logf("%d of %d requests, %.0f a second; life %d of %d", n, *idRequests, float64(n-h.toldAt)/took.Seconds(), life+1, h.lives)
	h.told, h.toldAt = time.Now(), n
}

// successor waits for the padlock that takes over; 0: there is none.
func successor(p *padlock) int {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		p.stderr.mu.Lock()
		text := p.stderr.text.String()
		p.stderr.mu.Unlock()
		if _, rest, ok := strings.Cut(text, "another padlock takes over"); ok {
			_, rest, _ = strings.Cut(rest, "pid=")
			digits, _, whole := strings.Cut(rest, "\n")
			if pid, err := strconv.Atoi(strings.TrimSpace(digits)); err == nil && whole {
				return pid
			}
		}
		if !running(p.pid) {
			return 0
		}
	}
	return 0
}

// verdict looks at how padlock has ended, and at what it has said.
func (h *identity) verdict(p *padlock, err error) {
	p.stderr.mu.Lock()
	text := p.stderr.text.String()
	p.stderr.mu.Unlock()
	for _, word := range []string{"panic", "DATA RACE", "request lost", "fatal error", "goroutine ", "unexpected fault"} {
		if at := strings.Index(text, word); at >= 0 {
			h.t.Errorf("padlock says %q:\n%s", word, text[max(0, at-500):min(len(text), at+6000)])
			return
		}
	}
	if secret := secretIn(text); secret != "" {
		h.t.Errorf("padlock says the secret %q:\n%s", secret, text)
	}
	if err != nil {
		h.t.Errorf("padlock ended with %v:\n%s", err, text)
	}
}

func (h *identity) over() bool   { return h.dead.Load() || h.faults.Load() > 0 }
func (h *identity) ending() bool { return h.end.Load() }

// next is a client's next request: first those that make all pairs, then these and any others; nil: there is none for it.
func (h *identity) next(u *idUser, front uint8, rng *rand.Rand) *idJob {
	if !slices.Contains(h.product.members[idFront], front) {
		return nil
	}
	for h.numbers.Load() >= h.quota.Load() && h.version.Load() >= h.awaited.Load() && !h.owes(front) && !h.ending() && !h.over() {
		time.Sleep(5 * time.Millisecond) // until SIGTERM has been sent
	}
	rows := h.rows[front][h.room]
	turn := int(h.turns[front][h.room].Add(1)) - 1
	c, unmet := idCombo{}, false
	if turn >= len(rows) {
		c, unmet = h.unmet(front)
	}
	switch {
	case unmet:
	case turn < len(rows):
		c = rows[turn]
	case rng.IntN(8) == 0:
		c = rows[rng.IntN(len(rows))]
		if c.beyond() && rng.IntN(10) > 0 { // most bytes of a run were those of what is asked for again
			c[idSize] = h.product.members[idSize][0]
		}
	default:
		c = h.product.random(rng)
		c[idFront] = front
		routes := h.routes
		if site := c.site(); site > 0 {
			routes = h.always[site]
		}
		route := routeOf(routes[rng.IntN(len(routes))])
		copy(c[idTarget:idLastOfRoute+1], route[idTarget:idLastOfRoute+1])
		c[idRoom] = h.room
		if c.one() && rng.IntN(3) > 0 { // each of these takes a connection
			c[idStays] = h.product.members[idStays][0]
			if c.does(doesSocket) {
				c[idDoes] = h.product.members[idDoes][0]
			}
		}
	}
	return h.job(u, c)
}

func (h *identity) find(marker string) *idJob {
	n := numberOf(marker)
	if n < 0 || n >= len(h.jobs) {
		return nil
	}
	if j := h.jobs[n].Load(); j != nil && j.marker == marker {
		return j
	}
	return nil
}

func (h *identity) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count[what]++
}

// left counts a request whose client has gone.
func (h *identity) left(j *idJob) {
	h.departures.Add(1)
	h.met(j)
}

func (h *identity) met(j *idJob) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count[idMembers[idFront][j.combo[idFront]]]++
	if j.combo.inspected() {
		h.count["inspected"]++
	}
	c := j.combo
	c[idRoom] = h.room
	if h.seen[c] {
		return
	}
	h.seen[c] = true
	c = h.product.undress(c)
	if c[idRoom] = h.product.members[idRoom][0]; !h.combos[c] && h.whole.has(c) {
		h.combos[c] = true
		h.part.met(c)
	}
	c = j.combo
	c[idRoom] = h.room
	for one := range c.pairs {
		h.pairs[one] = true
	}
}

// mixed reports what is another's; theirs is the marker that should not be there.
func (h *identity) mixed(j *idJob, where, what, theirs, seen string) {
	if h.faults.Add(1) > 5 {
		return
	}
	text := fmt.Sprintf("%s: %s: %q", where, what, theirs)
	if j != nil {
		h.failures.Store(j.marker, true)
		text += fmt.Sprintf("\nits own marker: %s\ncombo: %s\nraw request:\n%s", j.marker, j.combo, j)
	}
	if other := h.find(theirs); other != nil && other != j {
		text += fmt.Sprintf("\nthe other's combo: %s\nthe other's raw request:\n%s", other.combo, other)
	}
	h.t.Errorf("%s\nseen:\n%s", text, seen)
}

// lost reports a request that has failed, where it had no reason to.
func (h *identity) lost(j *idJob, err error) {
	gap := j.combo[idFront] == front3 && time.Since(time.Unix(0, h.restarted.Load())) < 15*time.Second // docs/operations.md, Restart
	if h.over() || h.ending() || gap || j.combo.dying() {
		h.left(j)
		return
	}
	if h.faults.Add(1) <= 5 {
		h.failures.Store(j.marker, true)
		h.t.Errorf("a request was lost: %v\ncombo: %s\nraw request:\n%s", err, j.combo, j)
	}
}

// done holds a response against its request.
func (h *identity) done(j *idJob, got idGot) {
	if err := got.decode(); err != nil {
		h.mixed(j, "client", "it gets content that cannot be decoded: "+err.Error(), j.marker, got.String())
		return
	}
	if what := j.decodeCall(&got); what != "" {
		h.mixed(j, "client", "it gets what a call's error is not: "+what, j.marker, got.String())
		return
	}
	if what := j.decodeWeb(&got); what != "" {
		h.mixed(j, "client", "it gets what is no gRPC-Web: "+what, j.marker, got.String())
		return
	}
	for _, text := range got.texts() {
		if theirs := stranger(text, j.marker); theirs != "" {
			h.mixed(j, "client", "it gets what is another's", theirs, text+"\n"+got.String())
			return
		}
	}
	if foreign, ok := got.err.(*idForeign); ok {
		h.mixed(j, "client", foreign.Error(), firstMarker(foreign.payload), got.String())
		return
	}
	if got.err != nil {
		h.lost(j, fmt.Errorf("%w, after %s", got.err, got))
		return
	}
	if what := j.check(got); what != "" && !h.over() && !(h.ending() && got.status != 200) {
		h.mixed(j, "client", "it gets what was not sent: "+what, j.marker, got.String())
		return
	}
	j.stick(got.fields)
	if version, err := strconv.ParseInt(got.fields.Get("X-Version"), 10, 64); err == nil && version > h.version.Load() {
		h.version.Store(version)
	}
	h.checked.Add(1)
	if j.combo.does(doesSocket) {
		h.note("WebSockets")
	}
	if got.coded {
		h.note("compressed")
	}
	h.met(j)
}

// texts are all that a response is made of.
func (g *idGot) texts() []string {
	texts := []string{string(g.content)}
	add := func(fields http.Header) {
		for name, values := range fields {
			texts = append(texts, strings.ToLower(name)+": "+strings.Join(values, "|"))
		}
	}
	add(g.fields)
	add(g.trailers)
	for _, interim := range g.interims {
		add(interim.fields)
	}
	return texts
}

func (g idGot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", g.status)
	for _, text := range g.texts()[1:] {
		b.WriteString(shortened(text) + "\n")
	}
	fmt.Fprintf(&b, "%d interim responses, and %d bytes of content: %.300q", len(g.interims), len(g.content), g.content)
	return b.String()
}

// check tells what is wrong with a response.
func (j *idJob) check(got idGot) string {
	want := 200
	if what := j.checkPage(got); what != "" {
		return what
	}

	refused := j.rebuffed && j.combo.auth(authForward)
	switch {
	case j.preflighted():
		want, refused = 204, false
	case j.readable():
		want = 403
	case refused:
		want = j.refusal()
		if got.call && want == 302 {
			want = 401 // a call does not go to a login
		}
	case j.rebuffed:
		want = 401
	case j.combo.files():
		want = j.fileStatus()
	case j.failure() != 0:
		want = j.failure()
	case j.combo.does(doesSocket) && (j.combo[idTarget] == targetH2C || j.combo.onlyHTTP2()):
		want = 502 // WebSockets are asked for by HTTP/1.1
	case j.combo.does(doesSocket):
		want = 101
	}
	switch {
	case got.status == want:
	case (j.rebuffed || j.combo.limit(limitRefuses)) && got.status == 429, j.combo.dying() && got.status >= 502 && got.status <= 504:
		return ""
	default:
		return fmt.Sprintf("status %d, not %d", got.status, want)
	}
	if what := j.checkChosen(got.fields); what != "" {
		return what
	}
	if what := j.checkCoding(got); what != "" {
		return what
	}
	if what := j.checkVaried("Response", got.fields); what != "" {
		return what
	}
	if what := j.checkShared(got); what != "" {
		return what
	}
	switch {
	case refused:
		return j.checkRefusal(got)
	case j.intercepted() && want == j.failure():
		return j.checkIntercepted(got)
	case want > 204 && want != j.failure():
		return ""
	}
	if what := j.checkCount(got); what != "" {
		return what
	}
	switch {
	case want == 204:
		return j.checkPreflight(got)
	case j.combo.files():
		return j.checkFile(got)
	}
	return j.checkEcho(got)
}

func (j *idJob) checkEcho(got idGot) string {
	m := j.marker
	for name, want := range map[string]string{
		"X-Echo": m, "Etag": j.tag(got), "X-" + m: m, "Content-Type": j.kind(), "X-Removed": "",
		"X-Long-Echo": strings.Repeat(m, 1+int(j.turn>>8)%60),
	} {
		if value := strings.Join(got.fields[http.CanonicalHeaderKey(name)], "|"); value != want {
			return fmt.Sprintf("%s: %q, not %q", name, value, want)
		}
	}
	if location := got.fields.Get("Content-Location"); location != j.location(j.combo[idTells] == tellsURLs) {
		return fmt.Sprintf("Content-Location: %q, not %q", location, j.location(j.combo[idTells] == tellsURLs))
	}
	path := "/"
	if j.combo[idTells] == tellsURLs && j.combo[idRewrite] == 1 {
		path = idPrefix(j.combo)
	}
	want := []string{"id=" + m + "; Path=" + path, "other=" + m + "; HttpOnly"}
	if j.combo.auth(authForward) {
		want = append(want, j.asked())
	}
	if cookies := j.own(got.fields["Set-Cookie"]); !slices.Equal(cookies, want) {
		return fmt.Sprintf("the cookies %q", cookies)
	}
	if id := got.fields.Get(varied("Response", "request_id")); id != got.fields.Get("X-Saw-Id") {
		return fmt.Sprintf("the request with the id %q has a response with the id %q", got.fields.Get("X-Saw-Id"), id)
	}
	if target := got.fields.Get("X-Target"); !strings.HasPrefix(target, idMembers[idTarget][j.combo[idTarget]]+" ") || strings.HasSuffix(target, "copies") {
		return fmt.Sprintf("an answer of the target %q", target)
	}
	if j.method == "HEAD" || j.combo.does(doesSocket) {
		return ""
	}
	_, content, _ := strings.Cut(string(got.content), "\n\n")
	if at := unstamped([]byte(content), m); at >= 0 || len(content) != j.down {
		return fmt.Sprintf("%d bytes of content, not %d; it differs after %d", len(content), j.down, at)
	}
	lengthy := j.combo.one() && got.fields.Get("Content-Length") != "" // where HTTP/1.1 has no place for trailers
	if (j.combo.does(doesTrailers) || j.combo.does(doesGRPC) || j.translated()) && !lengthy {
		if got.trailers.Get(idTrail) != m || got.trailers.Get(idStatus) != "0" {
			return fmt.Sprintf("the trailers %v", got.trailers)
		}
	}
	if j.combo.does(does103) && !slices.ContainsFunc(got.interims, func(i idInterim) bool {
		return i.status == 103 && strings.Contains(i.fields.Get("Link"), m)
	}) {
		return fmt.Sprintf("no 103 of its own in %v", got.interims)
	}
	return ""
}
