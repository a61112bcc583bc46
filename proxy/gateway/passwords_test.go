package gateway

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"padlock/config"
	"padlock/internal/fair"
	"padlock/proxy/message"
	"padlock/proxy/sites"
	"padlock/traffic"
)

var here = netip.MustParseAddr("192.0.2.1")

func credentials(name, password string) message.Fields {
	return message.Fields{{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))}}
}

func hash(t *testing.T, password string) string {
	t.Helper()
	made, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(made)
}

func realm(users map[string]string) *sites.BasicAuth {
	return sites.NewBasicAuth("r", users)
}

// What was right is remembered, one password for each name and hash, and over reloads; what was wrong is not, and neither is what was
// right under a hash that has gone.
func TestOnlyRightPasswordsAreRememberedAndNotForLong(t *testing.T) {
	p, first := newPasswords(), hash(t, "first")
	users := map[string]string{"ada": first, "bob": hash(t, "bob")}
	basic := realm(users)
	is := func(want, name, password string) {
		t.Helper()
		if got, err := p.user(t.Context(), basic, here, credentials(name, password)); got != want || err != nil {
			t.Errorf("%s with %s is %q, %v", name, password, got, err)
		}
	}
	is("ada", "ada", "first")
	is("ada", "ada", "first")
	is("", "ada", "wrong")
	is("", "bob", "first")
	is("", "eve", "first")
	if len(p.right) != 1 {
		t.Errorf("%d are remembered", len(p.right))
	}

	snapshot := func() *sites.Snapshot {
		cfg, err := config.Parse("padlock.yaml", fmt.Appendf(nil, "sites: [{hosts: [localhost], basic_auth: {users: {ada: %q, bob: %q}}}]", users["ada"], users["bob"]))
		if err != nil {
			t.Fatal(err)
		}
		s, err := sites.New(cfg, sites.Options{TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Book: new(traffic.Book)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	p.keep(snapshot())
	if len(p.right) != 1 {
		t.Error("a reload forgets what has not changed")
	}
	users["ada"] = hash(t, "second")
	basic = realm(users)
	is("", "ada", "first")
	is("ada", "ada", "second")
	p.keep(snapshot())
	if len(p.right) != 1 || p.right[account{"ada", first}] != (mac{}) {
		t.Errorf("%d are remembered after the password has changed", len(p.right))
	}
}

// A remembered password waits for nobody, though every turn is taken and the queue is full.
func TestARememberedPasswordWaitsForNobody(t *testing.T) {
	p := newPasswords()
	p.turns = fair.NewTurns(fair.Limits{AtOnce: 1, Each: 1, PerSource: 1, Waiting: 1})
	basic := realm(map[string]string{"ada": hash(t, "right")})
	if name, err := p.user(t.Context(), basic, here, credentials("ada", "right")); name != "ada" || err != nil {
		t.Fatal(name, err)
	}
	done, err := p.turns.Take(t.Context(), netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if name, err := p.user(ctx, basic, here, credentials("ada", "right")); name != "ada" || err != nil {
		t.Error(name, err)
	}
	if _, err := p.user(ctx, basic, here, credentials("ada", "wrong")); err == nil {
		t.Error("a wrong one does not wait")
	}
}

// The many requests of a page come with the same password: one check is for all, unless whoever was to make it leaves.
func TestTheSamePasswordIsCheckedOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPasswords()
		p.turns = fair.NewTurns(fair.Limits{AtOnce: 1, Each: 1, PerSource: 2, Waiting: 2})
		basic := realm(map[string]string{"ada": hash(t, "right")})
		done, err := p.turns.Take(t.Context(), netip.Prefix{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = p.user(ctx, basic, here, credentials("ada", "right")) }()
		synctest.Wait()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if name, err := p.user(t.Context(), basic, here, credentials("ada", "right")); name != "ada" || err != nil {
					t.Error(name, err)
				}
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		done()
		wg.Wait()
		if len(p.under) != 0 {
			t.Errorf("%d checks are under way", len(p.under))
		}
	})
}

// A name that does not exist takes as long as some name that does, and always the same one.
func TestUnknownNamesTakeAsLongAsKnownOnes(t *testing.T) {
	p := newPasswords()
	slow, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost+5)
	if err != nil {
		t.Fatal(err)
	}
	basic := realm(map[string]string{"ada": hash(t, "x"), "bob": string(slow)})
	seen := map[string]int{}
	for i := range 200 {
		name := fmt.Sprint("nobody", i)
		decoy := p.decoy(basic, name)
		if decoy != p.decoy(basic, name) {
			t.Fatal("a name takes now this long, now that")
		}
		seen[decoy]++
	}
	if seen[basic.Users["ada"]] < 50 || seen[basic.Users["bob"]] < 50 {
		t.Errorf("%v", seen)
	}

	costs := func(name string) time.Duration {
		least := time.Hour
		for i := range 3 {
			began := time.Now()
			_, _ = p.user(t.Context(), basic, here, credentials(name, fmt.Sprint("wrong", i)))
			least = min(least, time.Since(began))
		}
		return least
	}
	unknown := "nobody"
	for i := 0; p.decoy(basic, unknown) != string(slow); i++ {
		unknown = fmt.Sprint("nobody", i)
	}
	if a, b := costs("bob"), costs(unknown); a > 3*b || b > 3*a {
		t.Errorf("a known name takes %s, an unknown one %s", a, b)
	}
}
