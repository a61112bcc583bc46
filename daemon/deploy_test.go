package daemon

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/config"
	"padlock/discovery"
	"padlock/internal/servicetest"
)

// version is an app that says which one it is.
type version struct {
	*httptest.Server
	name    string
	sick    atomic.Bool
	gate    chan struct{} // /slow waits for it
	arrived chan struct{} // a request of /slow is there
	onces   atomic.Int64  // requests of /once, which is answered once
	at      atomic.Int64  // requests that it works on now, its health's not among them
}

func newVersion(t *testing.T, name string) *version {
	v := &version{name: name, gate: make(chan struct{}), arrived: make(chan struct{}, 100)}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/up" {
			if v.sick.Load() {
				w.WriteHeader(500)
			}
			return
		}
		if r.URL.Path == "/once" {
			if v.onces.Add(1) > 1 {
				<-r.Context().Done()
			}
			return
		}
		if r.Header.Get("Upgrade") != "" {
			// A WebSocket that says nothing until its client ends it.
			conn, stream, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
				_, _ = io.Copy(io.Discard, stream)
				conn.Close()
			}
			return
		}
		v.at.Add(1)
		defer v.at.Add(-1)
		if r.URL.Path == "/slow" {
			v.arrived <- struct{}{}
			select {
			case <-v.gate:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(v.Close)
	return v
}

const deployed = `
storage: STORAGE
admin: 127.0.0.1:0
listen: {https: ["127.0.0.1:0"], http: [], http3: true}
handshakes: {show: off}
sites:
  - hosts: [localhost, alias.test]
    routes:
      - {to: %q}
      - {path: /api, to: %[1]q, body_limit: 1MiB}
      - {path: /own, respond: {body: own}}
  - hosts: [two.test]
    routes: [{to: 1}, {path: /x, to: 2}]
  - {hosts: [bytes.test], tcp: {to: "127.0.0.1:1"}}
`

// deploy asks for one, and returns how it has ended and all that was said.
func (r *running) deploy(t *testing.T, change func(*DeployRequest)) (DeployResult, string) {
	t.Helper()
	q := &DeployRequest{Host: "localhost", Timeout: 5 * time.Second, Observe: 300 * time.Millisecond, Drain: 5 * time.Second}
	change(q)
	_, text := r.command(t, "POST", "/deploy", q)
	var last DeployStep
	for line := range strings.Lines(text) {
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	if !last.Over {
		t.Errorf("no end: %s", text)
	}
	return last.Result, text
}

func to(v *version) func(*DeployRequest) {
	return func(q *DeployRequest) { q.To = []string{strings.TrimPrefix(v.URL, "http://")} }
}

func (r *running) servedBy(t *testing.T, when, want string) {
	t.Helper()
	for _, path := range []string{"/", "/api"} {
		if status, body, _ := r.answered(t, path); status != 200 || body != want {
			t.Errorf("%s: %s: %d %q, not %s", when, path, status, body, want)
		}
	}
}

// A deploy holds over reloads and restarts, a rollback goes back, and other targets in the file count again.
func TestADeployHoldsUntilTheFilesTargetsChange(t *testing.T) {
	one, two, three := newVersion(t, "one"), newVersion(t, "two"), newVersion(t, "three")
	r := runFile(t, fmt.Sprintf(deployed, one.URL))
	r.servedBy(t, "before", "one")
	if result, text := r.deploy(t, to(two)); result != DeployDone || !strings.Contains(text, "switched from") || !strings.Contains(text, "has finished its requests") {
		t.Fatalf("%d %s", result, text)
	}
	r.servedBy(t, "after the deploy", "two")
	r.reload(t)
	r.servedBy(t, "after a reload", "two")
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	r.start(t, io.Discard, r.stderr)
	r.servedBy(t, "after a restart", "two")
	if _, text := r.command(t, "GET", "/status", nil); !strings.Contains(text, "localhost goes to "+two.URL) {
		t.Errorf("status: %s", text)
	}

	if result, text := r.deploy(t, func(q *DeployRequest) { q.Rollback = true }); result != DeployDone {
		t.Errorf("%d %s", result, text)
	}
	r.servedBy(t, "after the rollback", "one")
	if result, text := r.deploy(t, to(two)); result != DeployDone {
		t.Errorf("%d %s", result, text)
	}

	// The path of a route, alone.
	if result, text := r.deploy(t, func(q *DeployRequest) { to(three)(q); q.Path = "/api" }); result != DeployDone {
		t.Errorf("%d %s", result, text)
	}
	if _, body, _ := r.answered(t, "/api"); body != "three" {
		t.Errorf("/api is served by %s", body)
	}
	if _, body, _ := r.answered(t, "/"); body != "two" {
		t.Errorf("/ is served by %s", body)
	}

	// All routes again, that one among them.
	if result, text := r.deploy(t, to(one)); result != DeployDone {
		t.Errorf("%d %s", result, text)
	}
	r.servedBy(t, "after the deploy of all routes", "one")
	if result, text := r.deploy(t, to(two)); result != DeployDone {
		t.Errorf("%d %s", result, text)
	}

	r.write(t, fmt.Sprintf(deployed, three.URL))
	r.reload(t)
	r.servedBy(t, "with other targets in the file", "three")
	if !strings.Contains(r.stderr.String(), "a deploy no longer counts") {
		t.Errorf("%s", r.stderr)
	}
	// The version that was deployed then may be gone.
	r.write(t, fmt.Sprintf(deployed, one.URL))
	r.reload(t)
	r.servedBy(t, "with the targets of before the deploy in the file", "one")
}

// Targets that are written into the file after their deploy can be rolled back all the same.
func TestADeployThatIsWrittenIntoTheFileCanBeRolledBack(t *testing.T) {
	one, two := newVersion(t, "one"), newVersion(t, "two")
	r := runFile(t, fmt.Sprintf(deployed, one.URL))
	if result, text := r.deploy(t, to(two)); result != DeployDone {
		t.Fatalf("%d %s", result, text)
	}
	r.write(t, fmt.Sprintf(deployed, two.URL))
	r.reload(t)
	if _, text := r.command(t, "GET", "/overrides", nil); !strings.Contains(text, "as the configuration says too") {
		t.Errorf("%s", text)
	}
	if result, text := r.deploy(t, func(q *DeployRequest) { q.Rollback = true }); result != DeployDone {
		t.Errorf("%d %s", result, text)
	}
	r.servedBy(t, "after the rollback", "one")
}

// A site has the same deploys by all of its hosts: the latest counts.
func TestTheLatestDeployCountsByWhicheverHost(t *testing.T) {
	one, two, three := newVersion(t, "one"), newVersion(t, "two"), newVersion(t, "three")
	r := runFile(t, fmt.Sprintf(deployed, one.URL))
	if result, text := r.deploy(t, to(two)); result != DeployDone {
		t.Fatalf("%d %s", result, text)
	}
	if result, text := r.deploy(t, func(q *DeployRequest) { to(three)(q); q.Host = "alias.test" }); result != DeployDone {
		t.Fatalf("%d %s", result, text)
	}
	r.servedBy(t, "after a deploy by another host", "three")
	if result, text := r.deploy(t, func(q *DeployRequest) { q.Rollback = true }); result != DeployDone {
		t.Errorf("%d %s", result, text)
	}
	r.servedBy(t, "after the rollback by the first host", "two")
}

// A version whose last check has failed does not keep the requests because the time to watch it is over.
func TestADeployDoesNotEndWithAFailedCheck(t *testing.T) {
	one, two := newVersion(t, "one"), newVersion(t, "two")
	r := runFile(t, fmt.Sprintf(strings.Replace(deployed, "{to: %q}", "{to: %q, health: {path: /up, timeout: 200ms}}", 1), one.URL))
	result, text := r.deploy(t, func(q *DeployRequest) { to(two)(q); q.Health, q.Observe = "/once", 300*time.Millisecond })
	if result != DeployRolledBack || !strings.Contains(text, "it did not answer within 200ms") {
		t.Errorf("%d %s", result, text)
	}
	r.servedBy(t, "after the rollback", "one")
}

// A deploy of a site of containers counts until these are replaced, also where the next one has the same address.
func TestADeployCountsUntilItsContainersAreReplaced(t *testing.T) {
	one, two := newVersion(t, "one"), newVersion(t, "two")
	to, err := backends([]string{one.URL})
	if err != nil {
		t.Fatal(err)
	}
	owner := discovery.Owner{Kind: "app", Name: "shop", Sites: []config.Site{{Hosts: []string{"shop.localhost"}, Routes: []config.Route{{Upstream: config.Upstream{To: to}}}}}}
	source := &apps{changed: make(chan *discovery.Found), found: discovery.Find(owner)}
	r := &running{file: filepath.Join(t.TempDir(), "padlock.yaml"), roots: x509.NewCertPool(), stderr: &servicetest.Buffer{}, sources: []discovery.Source{source}}
	r.write(t, fmt.Sprintf(deployed, one.URL))
	r.start(t, io.Discard, r.stderr)
	t.Cleanup(func() { _ = r.end(t) })
	serves := func(want string) {
		t.Helper()
		servicetest.Until(t, func() error {
			if got := r.page("shop.localhost"); got != want {
				return fmt.Errorf("%q is served, not %q", got, want)
			}
			return nil
		})
	}

	serves("one")
	if result, text := r.deploy(t, func(q *DeployRequest) { q.Host, q.To = "shop.localhost", []string{two.URL} }); result != DeployDone {
		t.Fatalf("%d %s", result, text)
	}
	serves("two")
	r.reload(t)
	serves("two")
	source.changed <- discovery.Find()
	serves("")
	source.changed <- discovery.Find(owner)
	serves("one")
}

// What cannot be deployed changes nothing, and says why.
func TestADeployThatCannotBeChangesNothing(t *testing.T) {
	one, two := newVersion(t, "one"), newVersion(t, "two")
	two.sick.Store(true)
	r := runFile(t, fmt.Sprintf(deployed, one.URL))
	quick := func(change func(*DeployRequest)) func(*DeployRequest) {
		return func(q *DeployRequest) { to(two)(q); q.Timeout = 300 * time.Millisecond; change(q) }
	}
	for _, c := range []struct {
		change func(*DeployRequest)
		want   string
	}{
		{quick(func(*DeployRequest) {}), "did not become healthy within 300ms, and nothing has changed: " + two.URL + ": it answers /up with status 500"},
		{quick(func(q *DeployRequest) { q.To = []string{"127.0.0.1:1"} }), "did not become healthy"},
		{quick(func(q *DeployRequest) { q.To = []string{"tcp://x:1"} }), "the scheme must be http, https or h2c"},
		{quick(func(q *DeployRequest) { q.To = nil }), "needs targets"},
		{quick(func(q *DeployRequest) { q.Rollback = true }), "there is nothing to go back to"},
		{quick(func(q *DeployRequest) { q.Host = "nowhere.test" }), "no site has the host"},
		{quick(func(q *DeployRequest) { q.Host = "bytes.test" }), "forwards TCP"},
		{quick(func(q *DeployRequest) { q.Host = "two.test" }), `different targets: name one by its path, as two.test/api, or by a target that it has, with --from\n  two.test/ at http://localhost:1\n  two.test/x at http://localhost:2"`},
		{quick(func(q *DeployRequest) { q.From = "127.0.0.1:1" }), "no route of localhost has the target http://127.0.0.1:1; there are"},
		{quick(func(q *DeployRequest) { q.From = "tcp://x:1" }), "from: tcp://x:1: the scheme must be"},
		{quick(func(q *DeployRequest) { q.Path = "/own" }), "no route of localhost with the path /own forwards"},
		{quick(func(q *DeployRequest) { q.Health = "up" }), `is not a path such as /up`},
	} {
		if result, text := r.deploy(t, c.change); result != DeployFailed || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", c.want, result, text)
		}
	}
	r.servedBy(t, "after all of them", "one")
}

const canaries = `
storage: STORAGE
admin: 127.0.0.1:0
listen: {https: ["127.0.0.1:0"], http: []}
handshakes: {show: off}
sites:
  - hosts: [localhost]
    routes:
      - {query: {canary: "1"}, to: %q}
      - {query: {canary: "2"}, percent: 50, to: %[1]q, methods: [POST]}
      - {to: %[2]q}
      - {path: /api, to: %[2]q}
`

// Routes with the same path, such as a canary and what is stable, are told apart by their targets: those of the file, which stay the same
// over deploys, and those that they have now. What becomes of one leaves the others alone.
func TestADeployNamesACanaryByItsTarget(t *testing.T) {
	one, two, canary, next, last := newVersion(t, "one"), newVersion(t, "two"), newVersion(t, "canary"), newVersion(t, "next"), newVersion(t, "last")
	r := runFile(t, fmt.Sprintf(canaries, canary.URL, one.URL))
	serves := func(when, stable, other string) {
		t.Helper()
		r.servedBy(t, when, stable)
		if _, body, _ := r.answered(t, "/?canary=1"); body != other {
			t.Errorf("%s: the canary is %s, not %s", when, body, other)
		}
	}
	deploy := func(want DeployResult, to *version, from string, says ...string) {
		t.Helper()
		result, text := r.deploy(t, func(q *DeployRequest) {
			q.From = from
			if q.Rollback = to == nil; to != nil {
				q.To = []string{to.URL}
			}
		})
		if result != want {
			t.Errorf("from %s: %d %s", from, result, text)
		}
		for _, one := range says {
			if !strings.Contains(text, one) {
				t.Errorf("from %s: %q is not said: %s", from, one, text)
			}
		}
	}

	serves("before", "one", "canary")
	deploy(DeployFailed, next, "", "with --from", `localhost/ (query canary) at `+canary.URL, `localhost/ (POST, query canary, 50 %) at `+canary.URL, `localhost/ at `+one.URL, `localhost/api at `+one.URL)
	deploy(DeployDone, next, canary.URL, "switched from "+canary.URL)
	serves("after a deploy of the canary", "one", "next")
	deploy(DeployDone, two, one.URL, "switched from "+one.URL)
	serves("after a deploy of the others", "two", "next")
	r.reload(t)
	serves("after a reload", "two", "next")
	deploy(DeployDone, last, next.URL)
	serves("by the target that the canary has now", "two", "last")
	deploy(DeployDone, next, canary.URL, "switched from "+last.URL)
	serves("by the target that it has in the file", "two", "next")
	deploy(DeployDone, nil, canary.URL)
	serves("after a rollback of the canary", "two", "last")

	var falls sync.WaitGroup
	falls.Go(func() {
		for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
			if _, body, _ := r.answered(t, "/?canary=1"); body == "next" {
				break
			}
		}
		next.sick.Store(true)
	})
	result, text := r.deploy(t, func(q *DeployRequest) { to(next)(q); q.From, q.Observe = last.URL, time.Minute })
	falls.Wait()
	if result != DeployRolledBack {
		t.Errorf("%d %s", result, text)
	}
	serves("after a canary that has failed", "two", "last")

	// The canary becomes what is stable: both have the same targets now, and different ones in the file.
	deploy(DeployDone, last, one.URL)
	serves("after the promotion", "last", "last")
	next.sick.Store(false)
	deploy(DeployFailed, next, last.URL, "different targets", "localhost/ at "+last.URL+", in the configuration at "+one.URL)
	deploy(DeployDone, next, canary.URL)
	serves("after the next canary", "last", "next")
	if _, text := r.command(t, "GET", "/overrides", nil); strings.Count(text, "localhost goes to") != 2 {
		t.Errorf("%s", text)
	}

	// Other targets in the file end the deploy of the routes that have them, and no other.
	r.write(t, fmt.Sprintf(canaries, two.URL, one.URL))
	r.reload(t)
	serves("after another canary in the file", "last", "two")
}

// A version that fails right after the switch loses the requests again.
func TestADeployThatFailsAfterwardsIsRolledBack(t *testing.T) {
	one, two, three := newVersion(t, "one"), newVersion(t, "two"), newVersion(t, "three")
	r := runFile(t, fmt.Sprintf(deployed, one.URL))
	for _, before := range []*version{one, three} {
		if before == three {
			if result, text := r.deploy(t, to(three)); result != DeployDone {
				t.Fatalf("%d %s", result, text)
			}
		}
		two.sick.Store(false)
		stop := make(chan struct{})
		var switched sync.WaitGroup
		switched.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, body, _ := r.answered(t, "/"); body == "two" {
					two.sick.Store(true)
					return
				}
			}
		})
		result, text := r.deploy(t, func(q *DeployRequest) { to(two)(q); q.Observe = 10 * time.Second })
		close(stop)
		switched.Wait()
		if result != DeployRolledBack || !strings.Contains(text, "has the requests again: "+two.URL+": it answers /up with status 500") {
			t.Errorf("%d %s", result, text)
		}
		r.servedBy(t, "after the rollback", before.name)
		r.reload(t)
		r.servedBy(t, "after a reload", before.name)
	}
}

// Of two deploys of a site the second is refused, and the first is not disturbed.
func TestASecondDeployOfASiteIsRefused(t *testing.T) {
	one, two := newVersion(t, "one"), newVersion(t, "two")
	r := runFile(t, fmt.Sprintf(deployed, one.URL))
	var asked sync.WaitGroup
	asked.Go(func() {
		if status, body, _ := r.answered(t, "/slow"); status != 200 || body != "one" {
			t.Errorf("a request in flight: %d %s", status, body)
		}
	})
	<-one.arrived
	var first sync.WaitGroup
	first.Go(func() {
		if result, text := r.deploy(t, func(q *DeployRequest) { to(two)(q); q.Drain = time.Minute }); result != DeployDone {
			t.Errorf("the first: %d %s", result, text)
		}
	})
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, body, _ := r.answered(t, "/"); body == "two" {
			break
		} else if time.Now().After(limit) {
			t.Fatal("it does not switch")
		}
	}
	if result, text := r.deploy(t, to(one)); result != DeployBusy || !strings.Contains(text, "another deploy of localhost is under way") {
		t.Errorf("the second: %d %s", result, text)
	}
	if _, text := r.command(t, "GET", "/overrides", nil); !strings.Contains(text, "a deploy of localhost is under way since") {
		t.Errorf("%s", text)
	}
	// The first waits for the request that the old version has.
	close(one.gate)
	asked.Wait()
	first.Wait()
}

// With pause, requests wait while the old version finishes, and the new one has none before that; who leaves waits no
// longer, and a deploy that gives up lets them go on to the old version.
func TestAPausedDeployHoldsRequests(t *testing.T) {
	one, two := newVersion(t, "one"), newVersion(t, "two")
	r := runFile(t, fmt.Sprintf(deployed, one.URL))
	var asked sync.WaitGroup
	asked.Go(func() { r.answered(t, "/slow") })
	<-one.arrived
	var first sync.WaitGroup
	first.Go(func() {
		if result, text := r.deploy(t, func(q *DeployRequest) { to(two)(q); q.Pause = true }); result != DeployDone || !strings.Contains(text, "holding new requests") {
			t.Errorf("%d %s", result, text)
		}
	})

	// Clients that give up, until one is held.
	impatient := r.client(false, nil)
	impatient.Timeout = 200 * time.Millisecond
	for limit := time.Now().Add(20 * time.Second); ; {
		response, err := impatient.Get("https://localhost/")
		if err != nil {
			break
		}
		response.Body.Close()
		if time.Now().After(limit) {
			t.Fatal("no request is held")
		}
	}
	var held sync.WaitGroup
	for _, client := range []*http.Client{r.client(false, nil), r.client(true, nil), r.three(t)} {
		for range 5 {
			held.Go(func() {
				response, err := client.Post("https://localhost/", "text/plain", strings.NewReader("content"))
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				if body, _ := io.ReadAll(response.Body); string(body) != "two" {
					t.Errorf("%s %s", response.Status, body)
				}
			})
		}
	}
	if two.at.Load() > 0 {
		t.Error("the new version has a request before the old one has finished")
	}
	close(one.gate)
	asked.Wait()
	held.Wait()
	first.Wait()
}

// Through ten deploys no request fails, over any protocol, as many as the machine sends.
func TestTenDeploysFailNoRequest(t *testing.T) {
	versions := []*version{newVersion(t, "v"), newVersion(t, "v"), newVersion(t, "v")}
	r := runFile(t, fmt.Sprintf(deployed, versions[0].URL))
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	var asked, failed atomic.Int64
	for n, client := range []*http.Client{r.client(false, nil), r.client(true, nil), r.three(t), r.client(true, nil)} {
		if n == 0 {
			client.Transport.(*http.Transport).DisableKeepAlives = false
			client.Transport.(*http.Transport).MaxIdleConnsPerHost = 8
		}
		for range 4 {
			crowd.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					response, err := client.Post("https://localhost/api", "text/plain", strings.NewReader("content"))
					asked.Add(1)
					if err == nil {
						body, failure := io.ReadAll(response.Body)
						response.Body.Close()
						if err = failure; err == nil && (response.StatusCode != 200 || string(body) != "v") {
							err = errors.New(response.Status)
						}
					}
					if err != nil && failed.Add(1) < 5 {
						t.Error(err)
					}
				}
			})
		}
	}

	began := time.Now()
	for n := 1; n <= 10; n++ {
		next := versions[n%len(versions)]
		result, text := r.deploy(t, func(q *DeployRequest) { to(next)(q); q.Observe = 100 * time.Millisecond; q.Pause = n%3 == 0 })
		if result != DeployDone {
			t.Errorf("deploy %d: %d %s", n, result, text)
		}
	}
	took := time.Since(began)
	close(stop)
	crowd.Wait()
	t.Logf("%d requests in %s, %d failed", asked.Load(), took, failed.Load())
}

// WebSockets have the time to drain, and are then closed with the status that says so.
func TestWebSocketsHaveTheTimeToDrain(t *testing.T) {
	one, two := newVersion(t, "one"), newVersion(t, "two")
	r := runFile(t, fmt.Sprintf(deployed, one.URL))
	conn, err := tls.Dial("tcp", r.address, r.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	stream := bufio.NewReader(conn)
	if response, err := http.ReadResponse(stream, nil); err != nil || response.StatusCode != 101 {
		t.Fatal(response, err)
	}

	result, text := r.deploy(t, func(q *DeployRequest) { to(two)(q); q.Observe, q.Drain = 100*time.Millisecond, 500*time.Millisecond })
	if result != DeployDone || !strings.Contains(text, "still had 0 requests, and 1 WebSockets, which are closed") {
		t.Errorf("%d %s", result, text)
	}
	if rest, _ := io.ReadAll(stream); string(rest) != "\x88\x02\x03\xe9" {
		t.Errorf("%q", rest)
	}
}
