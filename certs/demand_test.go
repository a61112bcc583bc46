package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"padlock/certs/acme"
	"padlock/config"
)

// orderer is a client with an empty storage, whose orders take as long as the test says. It has eight places, as the real one has.
type orderer struct {
	Client
	pair   *acme.Pair
	places chan struct{}
	slow   func(ctx context.Context, name string)
	orders atomic.Int64
}

func newOrderer(t *testing.T) *orderer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ = x509.ParseCertificate(der)
	pair := &acme.Pair{Certificate: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, Renewal: leaf.NotAfter}
	return &orderer{pair: pair, places: make(chan struct{}, 8), slow: func(context.Context, string) {}}
}

func (o *orderer) Load(context.Context, string) (*acme.Bundle, error) { return nil, fs.ErrNotExist }

func (o *orderer) Ensure(ctx context.Context, name string, _ *acme.Bundle) (*acme.Bundle, error) {
	select {
	case o.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-o.places }()
	o.slow(ctx, name)
	o.orders.Add(1)
	return &acme.Bundle{Pairs: []*acme.Pair{o.pair}, Due: time.Now().Add(time.Hour)}, nil
}

// from is a connection of a client with an address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }

// visits asks a manager for certificates as handshakes do.
type visits struct {
	*Manager
	client *orderer
	asked  sync.Map // names that the application was asked about
}

// visiting agrees to names below shop.example, in its own time.
func visiting(t *testing.T, c config.OnDemand, answer func(name string)) *visits {
	t.Helper()
	v := &visits{client: newOrderer(t)}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("domain")
		v.asked.Store(name, true)
		if answer != nil {
			answer(name)
		}
		switch {
		case strings.HasSuffix(name, ".broken.example"):
			w.WriteHeader(http.StatusInternalServerError)
		case !strings.HasSuffix(name, ".shop.example"):
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(app.Close)
	c.Ask, c.Cache = app.URL, 1000
	v.Manager = NewManager(v.client, ManagerOptions{OnDemand: &c, Log: slog.New(slog.DiscardHandler)})
	return v
}

// come makes a handshake from an address, and reports whether there was a certificate.
func (v *visits) come(addr, name string) bool {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	server := tls.Server(from{near, addr}, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return v.certificate(hello, name), nil
	}})
	go func() { _ = server.Handshake(); near.Close() }()
	return tls.Client(far, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() == nil
}

// Invented names, and names that the application fails over, cost whoever brings them, and nobody else: a good name from a new address is
// asked about and served, however many there were.
func TestRefusedNamesCostTheirSourceAlone(t *testing.T) {
	v := visiting(t, config.OnDemand{PerSource: 10, PerMinute: 60}, nil)
	var wg sync.WaitGroup
	for client := range 30 {
		for i := range 10 {
			below := "invented.example"
			if i%2 == 1 {
				below = "broken.example"
			}
			wg.Go(func() { v.come(fmt.Sprintf("192.0.2.%d:1000", client), fmt.Sprintf("c%d-n%d.%s", client, i, below)) })
		}
	}
	wg.Wait()
	if !v.come("198.51.100.1:1000", "good.shop.example") {
		_, asked := v.asked.Load("good.shop.example")
		t.Errorf("a good name from a new address gets no certificate; asked about: %v", asked)
	}
	if v.come("192.0.2.1:1000", "other.shop.example") {
		t.Error("a client may bring more names than it may")
	}
	if _, asked := v.asked.Load("other.shop.example"); asked {
		t.Error("the application is asked more often than one client may")
	}
	if v.client.orders.Load() != 1 {
		t.Errorf("%d orders", v.client.orders.Load())
	}
}

// What one client may not do is no answer for another: a name that comes from a client that has used up its limit is not refused to
// those who have not.
func TestAClientCannotHaveANameRefusedToOthers(t *testing.T) {
	v := visiting(t, config.OnDemand{PerSource: 3, PerMinute: 60}, nil)
	for i := range 4 {
		v.come("192.0.2.1:1000", fmt.Sprintf("n%d.invented.example", i))
	}
	for range 3 {
		if v.come("192.0.2.1:1000", "good.shop.example") {
			t.Fatal("the limit of one client does not hold")
		}
	}
	if !v.come("198.51.100.1:1000", "good.shop.example") {
		t.Error("another client gets no certificate for that name")
	}
}

// Clients for whose names the application takes for ever, or the CA, leave room for others.
func TestSlowNamesLeaveRoomForOthers(t *testing.T) {
	for _, step := range []string{"asking", "ordering"} {
		t.Run(step, func(t *testing.T) {
			over, slow := make(chan struct{}), make(chan struct{}, 100)
			hang := func(name string) {
				if strings.HasPrefix(name, "slow") {
					slow <- struct{}{}
					<-over
				}
			}
			c, answer := config.OnDemand{PerSource: 10, PerMinute: 600}, hang
			if step == "ordering" {
				answer = nil
			}
			v := visiting(t, c, answer)
			if step == "ordering" {
				v.client.slow = func(_ context.Context, name string) { hang(name) }
			}

			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() { v.come("192.0.2.1:1000", fmt.Sprintf("slow%d.shop.example", i)) })
			}
			<-slow
			<-slow
			if !v.come("198.51.100.1:1000", "good.shop.example") {
				t.Error("nobody else gets a certificate")
			}
			if len(v.client.places) > 6 {
				t.Errorf("%d places of the client are taken; listed names have too few", len(v.client.places))
			}
			close(over)
			wg.Wait()
		})
	}
}

// A name that many want is one question and one order, and keeps no turn from others.
func TestANameThatManyWantIsOneOrder(t *testing.T) {
	over := make(chan struct{})
	v := visiting(t, config.OnDemand{PerSource: 10, PerMinute: 600}, nil)
	v.client.slow = func(_ context.Context, name string) {
		if name == "new.shop.example" {
			<-over
		}
	}
	var wg sync.WaitGroup
	var served atomic.Int64
	for i := range 50 {
		wg.Go(func() {
			if v.come(fmt.Sprintf("192.0.2.%d:1000", i), "new.shop.example") {
				served.Add(1)
			}
		})
	}
	for len(v.client.places) == 0 {
		time.Sleep(time.Millisecond)
	}
	if !v.come("198.51.100.1:1000", "other.shop.example") {
		t.Error("another name waits for it")
	}
	close(over)
	wg.Wait()
	if served.Load() != 50 || v.client.orders.Load() != 2 {
		t.Errorf("%d of 50 served, %d orders", served.Load(), v.client.orders.Load())
	}
}

// Whoever goes through the names may hold one while it goes: nothing is ordered for a name that was denied, whatever the moment at which it
// was found, nor for one that a reload has taken away or has listed anew.
func TestNothingIsOrderedForANameThatIsGone(t *testing.T) {
	var v *visits
	var found *managed
	v = visiting(t, config.OnDemand{PerSource: 10, PerMinute: 60}, func(name string) { found = v.find(name) })
	if v.come("192.0.2.1:1000", "n1.invented.example") || found == nil {
		t.Fatalf("an invented name, found while it was asked about: %v", found)
	}
	gone := []*managed{found}

	v.SetNames([]string{"listed.example"})
	gone = append(gone, v.find("listed.example"))
	v.SetNames(nil)

	v.come("192.0.2.1:1000", "good.shop.example")
	gone = append(gone, v.find("good.shop.example"))
	v.SetNames([]string{"good.shop.example"})

	before := v.client.orders.Load()
	for _, n := range gone {
		if _, ok := n.start(time.Now().Add(24 * time.Hour)); ok {
			t.Errorf("%s is looked at again", n.name)
		}
		v.look(t.Context(), n)
	}
	if n := v.client.orders.Load() - before; n != 0 {
		t.Errorf("%d orders", n)
	}

	// Nor for one that nobody has agreed to yet.
	asking := newManaged("n2.invented.example", true)
	v.look(t.Context(), asking)
	if n := v.client.orders.Load() - before; n != 0 {
		t.Error("a name is ordered that nobody has agreed to")
	}
}

// Whoever comes first with a name does not decide when it is its turn: a client that waits for its own turns keeps no
// name of another's waiting with it.
func TestANameIsNotTheFirstClientsAlone(t *testing.T) {
	over, slow := make(chan struct{}), make(chan struct{}, 100)
	v := visiting(t, config.OnDemand{PerSource: 10, PerMinute: 600}, nil)
	v.client.slow = func(_ context.Context, name string) {
		if strings.HasPrefix(name, "slow") {
			slow <- struct{}{}
			<-over
		}
	}

	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(over)
	for i := range 2 {
		wg.Go(func() { v.come("192.0.2.1:1000", fmt.Sprintf("slow%d.shop.example", i)) })
		<-slow
	}
	wg.Go(func() { v.come("192.0.2.1:1000", "good.shop.example") })
	for _, asked := v.asked.Load("good.shop.example"); !asked; _, asked = v.asked.Load("good.shop.example") {
		time.Sleep(time.Millisecond)
	}
	// Its turn is far away, whatever the clock says.
	n := v.find("good.shop.example")
	n.mu.Lock()
	n.begin = time.Now().Add(-5 * patience)
	n.mu.Unlock()

	if !v.come("198.51.100.1:1000", "good.shop.example") {
		t.Error("a client gets no certificate, as another waits for the same name")
	}
}

// An order has its full time, however long the client has waited for it that came first with the name: it would fail for
// all who want it.
func TestAnOrderHasItsFullTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newOrderer(t)
		m := NewManager(client, ManagerOptions{OnDemand: &config.OnDemand{Allow: []string{"*.shop.example"}, PerSource: 10, PerMinute: 600, Cache: 10}, Log: slog.New(slog.DiscardHandler)})
		defer m.end()
		left := make(chan time.Duration, 3)
		client.slow = func(ctx context.Context, name string) {
			end, _ := ctx.Deadline()
			left <- time.Until(end)
			time.Sleep(demandOrders - time.Second)
		}
		source := netip.MustParsePrefix("192.0.2.1/32")
		for i := range 3 {
			n := newManaged(fmt.Sprintf("n%d.shop.example", i), true)
			w := newWanted()
			w.join(source)
			m.looking.Go(func() { m.first(n, w, source) })
		}
		m.looking.Wait()
		for range 3 {
			if d := <-left; d != demandOrders {
				t.Errorf("an order has %s", d)
			}
		}
	})
}

// The end of padlock waits for no CA.
func TestTheEndWaitsForNoOrderOnDemand(t *testing.T) {
	v := visiting(t, config.OnDemand{PerSource: 10, PerMinute: 600}, nil)
	begun := make(chan struct{})
	v.client.slow = func(ctx context.Context, _ string) { close(begun); <-ctx.Done() }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { v.Run(ctx); close(ended) }()
	go v.come("192.0.2.1:1000", "new.shop.example")
	<-begun
	cancel()
	select {
	case <-ended:
	case <-time.After(demandOrders / 2):
		t.Fatal("the end waits for an order")
	}
	if v.demand.isDenied("new.shop.example") {
		t.Error("the name is refused, as padlock ends")
	}
}

// A name that stands for a wildcard in the storage is nobody's to ask for.
func TestNoNameTakesThePlaceOfAWildcard(t *testing.T) {
	v := visiting(t, config.OnDemand{PerSource: 10, PerMinute: 60}, nil)
	if v.come("192.0.2.1:1000", "wildcard_.shop.example") || v.client.orders.Load() != 0 {
		t.Error("there is a certificate")
	}
	if _, asked := v.asked.Load("wildcard_.shop.example"); asked {
		t.Error("the application is asked")
	}
}

// unreadable is a client whose storage is away.
type unreadable struct{ *orderer }

func (unreadable) Load(context.Context, string) (*acme.Bundle, error) {
	return nil, fmt.Errorf("the storage is away")
}

// While the storage is away, nothing is ordered, and whoever invents names does not fill the log.
func TestInventedNamesFillNoLogWhileTheStorageIsAway(t *testing.T) {
	v := visiting(t, config.OnDemand{PerSource: 10, PerMinute: 60}, nil)
	v.Manager.client = unreadable{v.client}
	var text strings.Builder
	v.Manager.log = slog.New(slog.NewTextHandler(&text, nil))
	for i := range 20 {
		if v.come("192.0.2.1:1000", fmt.Sprintf("n%d.shop.example", i)) {
			t.Error("there is a certificate")
		}
	}
	v.looking.Wait()
	if got := strings.Count(text.String(), "\n"); got != 1 || !strings.Contains(text.String(), "the storage is away") || v.client.orders.Load() != 0 {
		t.Errorf("%d lines, %d orders:\n%s", got, v.client.orders.Load(), &text)
	}
}
