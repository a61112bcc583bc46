//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// node is one of several padlocks of one storage. The CA comes to the first only.
func nodeFile(t *testing.T, ca *theCA, storage, https, http, more string, hosts ...string) string {
	t.Helper()
	return write(t, "padlock.yaml", fmt.Sprintf(`
listen: {https: [%q], http: [%q]}
storage: %q
admin: "off"
access_log: {format: "off"}
certificates:
  issuers: [{directory: %q, root: %q}]
  dns: {resolvers: [%q]}
%s
sites:
  - hosts: [%s]
`, https, http, storage, ca.URL, ca.Root, ca.DNS, indent(more), strings.Join(hosts, ", ")))
}

// load makes handshakes with addresses, rate a second in total, until stop, and counts those that failed.
func load(addresses []string, name string, rate int, verify func(*tls.Config)) (stop func() (done, failed int64, last error)) {
	var done, failed atomic.Int64
	var last atomic.Value
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-ticker.C:
			}
			address := addresses[i%len(addresses)]
			wg.Go(func() {
				done.Add(1)
				if _, err := see(address, name, verify); err != nil {
					failed.Add(1)
					last.Store(fmt.Errorf("%s: %w", address, err)) // of one type, whatever has failed
				}
			})
		}
	})
	return func() (int64, int64, error) {
		close(end)
		wg.Wait()
		err, _ := last.Load().(error)
		return done.Load(), failed.Load(), err
	}
}

func startRedis(t testing.TB) *servicetest.Service { return servicetest.StartRedis(t) }

// Two nodes on one store: one order for a name that both have, any node answers for any other, tickets of the one resume on the other, and
// when the store is away for a while no handshake fails.
func TestTwoNodes(t *testing.T) {
	besides(t)
	for _, c := range []struct {
		name, client string
		start        func(testing.TB) *servicetest.Service
	}{
		{"redis", "certmagic", startRedis},
		{"postgresql", "certmagic", servicetest.StartPostgres},
		{"redis, autocert", "autocert", startRedis},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store := c.start(t)
			ca := startCA(t, servicetest.PebbleOptions{})
			first := ca.address()
			second := net.JoinHostPort("127.0.0.1", strconv.Itoa(servicetest.FreePort(t)))
			other := net.JoinHostPort("127.0.0.1", strconv.Itoa(servicetest.FreePort(t)))
			plain := net.JoinHostPort("127.0.0.1", strconv.Itoa(ca.HTTP))
			a := runFile(t, nodeFile(t, ca, store.URL, first, plain, "client: "+c.client, "a.example.com", "both.example.com"))
			b := runFile(t, nodeFile(t, ca, store.URL, second, other, "client: "+c.client, "b.example.com", "both.example.com"))
			for _, at := range []struct{ address, name string }{{first, "both.example.com"}, {second, "both.example.com"}, {first, "a.example.com"}, {second, "b.example.com"}} {
				eventually(t, func() (string, error) {
					_, err := see(at.address, at.name, func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, ca.roots() })
					return "", err
				})
			}
			if n := ca.orders(); n != 3 {
				t.Errorf("%d orders for three names", n)
			}
			if x, err := see(first, "both.example.com", nil); err != nil {
				t.Error(err)
			} else if y, err := see(second, "both.example.com", nil); err != nil || !x.PeerCertificates[0].Equal(y.PeerCertificates[0]) {
				t.Errorf("the nodes serve different certificates: %v", err)
			}

			cache := tls.NewLRUClientSessionCache(4)
			keep := func(c *tls.Config) { c.ClientSessionCache = cache }
			if _, err := see(first, "both.example.com", keep); err != nil {
				t.Fatal(err)
			}
			if state, err := see(second, "both.example.com", keep); err != nil || !state.DidResume {
				t.Errorf("the first node's ticket does not resume on the second: %v", err)
			}

			rate := 30
			if *long {
				rate = 60
			}
			stop := load([]string{first, second}, "both.example.com", rate, func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, ca.roots() })
			time.Sleep(time.Second) // handshakes with the store
			store.Stop()
			a.stderr.wait(t, "the storage cannot be reached")
			b.stderr.wait(t, "the storage cannot be reached")
			store.Start()
			time.Sleep(3 * time.Second) // and after it has come back
			done, failed, last := stop()
			if failed > 0 || done < 100 {
				t.Errorf("%d of %d handshakes failed: %v", failed, done, last)
			}
			if n := ca.orders(); n != 3 {
				t.Errorf("%d orders after the store came back", n)
			}
		})
	}
}

// Certificates of a minute are renewed while six clients a second come, in the long form fifty, none of which notices.
func TestRenewalUnderLoad(t *testing.T) {
	besides(t)
	ca := startCA(t, servicetest.PebbleOptions{Lifetime: time.Minute})
	p := runFile(t, nodeFile(t, ca, t.TempDir(), ca.address(), net.JoinHostPort("127.0.0.1", strconv.Itoa(ca.HTTP)), "", "app.example.com"))
	seen := ca.issued(t, "app.example.com", nil)
	rate := 6
	if *long {
		rate = 50
	}
	stop := load([]string{ca.address()}, "app.example.com", rate, func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, ca.roots() })
	renewals := 0
	for end := time.Now().Add(3 * time.Minute); renewals < 2 && time.Now().Before(end); time.Sleep(time.Second) {
		if next := ca.issued(t, "app.example.com", nil); !next.Equal(seen) {
			seen = next
			renewals++
		}
	}
	done, failed, last := stop()
	t.Logf("%d handshakes, %d renewals", done, renewals)
	if failed > 0 || renewals < 2 || done < 300 {
		t.Errorf("%d of %d handshakes failed, %d renewals: %v\n%s", failed, done, renewals, last, p.stderr.wait(t))
	}
}

// Two nodes whose certificate is due at the same moment, on a store that takes a fifth of a second for every answer: one order for each
// renewal, and both serve the same.
func TestTwoNodesRenewAtOnceOnASlowStore(t *testing.T) {
	besides(t)
	ca, store := startCA(t, servicetest.PebbleOptions{Lifetime: 2 * time.Minute}), servicetest.StartRedis(t)
	slow := strings.Replace(store.URL, hostOf(t, store.URL), servicetest.Delayed(t, hostOf(t, store.URL), 200*time.Millisecond), 1)
	addresses := []string{ca.address(), local(servicetest.FreePort(t))}
	a := runFile(t, nodeFile(t, ca, slow, addresses[0], local(ca.HTTP), "", "both.example.com"))
	b := runFile(t, nodeFile(t, ca, slow, addresses[1], local(servicetest.FreePort(t)), "", "both.example.com"))
	trusting := func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, ca.roots() }
	for _, address := range addresses {
		eventually(t, func() (string, error) { _, err := see(address, "both.example.com", trusting); return "", err })
	}
	seen := map[string]map[string]bool{}
	onBoth := func() (n int) {
		for _, by := range seen {
			if len(by) == 2 {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(4 * time.Minute); onBoth() < 2 && time.Now().Before(end); time.Sleep(500 * time.Millisecond) { // each is served for half a minute and longer
		for _, address := range addresses {
			state, err := see(address, "both.example.com", trusting)
			if err != nil {
				t.Fatalf("%s: %v\n%s\n%s", address, err, a.stderr.wait(t), b.stderr.wait(t))
			}
			print := fingerprintOf(state.PeerCertificates[0])
			if seen[print] == nil {
				seen[print] = map[string]bool{}
			}
			seen[print][address] = true
		}
	}
	both := onBoth()
	t.Logf("%d certificates, %d of them on both nodes, %d orders", len(seen), both, ca.orders())
	if len(seen) < 2 || both < len(seen)-1 || ca.orders() > len(seen)+1 { // the last may have only begun
		t.Errorf("%d certificates, %d of them on both nodes, %d orders", len(seen), both, ca.orders())
	}
}

func hostOf(t *testing.T, location string) string {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}
