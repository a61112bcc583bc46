package proxy_test

//lint:file-ignore SA1019 x/net's HTTP/2 is what go.mod pins.

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/net/http2"

	"padlock/config"
)

// hashed is a bcrypt hash of a password.
func hashed(t *testing.T, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// coming is a client for each protocol, that comes from an address of loopback.
func (e *edge) coming(t *testing.T, address string) map[string]*http.Client {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	one := &http.Transport{MaxIdleConnsPerHost: 200, TLSClientConfig: e.tls(), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return from.DialContext(ctx, "tcp", e.address)
	}}
	two := &http2.Transport{TLSClientConfig: e.tls(), StrictMaxConcurrentStreams: true, DialTLSContext: func(ctx context.Context, _, _ string, c *tls.Config) (net.Conn, error) {
		d := tls.Dialer{Config: c, NetDialer: &from}
		return d.DialContext(ctx, "tcp", e.address)
	}}
	three := &http3.Transport{TLSClientConfig: e.tls(), Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		socket, err := net.ListenPacket("udp", address+":0")
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { socket.Close() })
		to, err := net.ResolveUDPAddr("udp", e.address)
		if err != nil {
			return nil, err
		}
		return quic.Dial(ctx, socket, to, c, q)
	}}
	t.Cleanup(func() { one.CloseIdleConnections(); two.CloseIdleConnections(); three.Close() })
	return map[string]*http.Client{"h1": {Transport: one}, "h2": {Transport: two}, "h3": {Transport: three}}
}

// try asks with a password, and returns the status.
func try(ctx context.Context, client *http.Client, name, password, forwarded string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, "GET", "https://localhost/", nil)
	if err != nil {
		return 0, err
	}
	request.SetBasicAuth(name, password)
	if forwarded != "" {
		request.Header.Set("X-Forwarded-For", forwarded)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return response.StatusCode, nil
}

// protected is an edge whose site asks for a password.
func protected(t *testing.T, users map[string]string, change func(*config.Config)) *edge {
	t.Helper()
	return start(t, backend(t, func(w http.ResponseWriter, r *http.Request) {}), func(c *config.Config) {
		c.Sites[0].Access.BasicAuth = &config.BasicAuth{Realm: "padlock", Users: users}
		if change != nil {
			change(c)
		}
	})
}

// A hundred wrong passwords at once, again and again, over every protocol, from one address: who comes from another with the right one
// waits for a check or two. Who floods is told to come back later. The same where a trusted proxy stands before both.
func TestWrongPasswordsDoNotHoldUpTheRightOne(t *testing.T) {
	const cost = 7 // the race detector multiplies it
	hash := hashed(t, "right", cost)
	checks := func() time.Duration {
		began := time.Now()
		_ = bcrypt.CompareHashAndPassword([]byte(hash), []byte("wrong"))
		return time.Since(began)
	}
	check := checks()

	for _, proxied := range []bool{false, true} {
		users := map[string]string{}
		for _, protocol := range []string{"h1", "h2", "h3"} {
			users[protocol] = hash
		}
		e := protected(t, users, func(c *config.Config) {
			if proxied {
				c.Trusted = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
			}
		})
		flooder, polite, badName, goodName := "127.0.0.2", "127.0.0.3", "", ""
		if proxied {
			polite, badName, goodName = flooder, "192.0.2.1", "192.0.2.2"
		}
		flood, good := e.coming(t, flooder), e.coming(t, polite)
		for protocol := range good {
			if proxied && protocol != "h2" {
				continue
			}
			t.Run(fmt.Sprint(protocol, " proxied ", proxied), func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var guessing sync.WaitGroup
				defer guessing.Wait()
				defer cancel()
				refused := make(chan bool, 1)
				for guesser := range 100 {
					guessing.Go(func() {
						for i := 0; ctx.Err() == nil; i++ {
							status, err := try(ctx, flood[protocol], "h1", fmt.Sprint("wrong", guesser, i), badName)
							if err == nil && status == 429 {
								select {
								case refused <- true:
								default:
								}
								time.Sleep(time.Second) // else this machine does nothing else
							}
						}
					})
				}
				select {
				case <-refused:
				case <-time.After(30 * time.Second):
					t.Fatal("nobody who floods is refused")
				}

				began := time.Now()
				status, err := try(t.Context(), good[protocol], protocol, "right", goodName)
				took := time.Since(began)
				if err != nil || status != 200 {
					t.Fatalf("the right password: %d, %v", status, err)
				}
				// Others may keep the processors busy, too.
				if most := 8*max(check, checks()) + time.Second; took > most {
					t.Errorf("the right password waits %s behind wrong ones; a check takes %s", took, check)
				}
			})
		}
	}
}

// Passwords are compared with hashes of Argon2id as with those of bcrypt, and the hash may change from one to the other.
func TestPasswordsAreComparedWithHashesOfArgon2id(t *testing.T) {
	t.Parallel()
	const hash = "$argon2id$v=19$m=4096,t=1,p=2$b3RoZXJzYWx0$cxOih2//0xErQlqOLo2uOnq56ZHNilg57E7nJooE4iY" // of secret, made by argon2
	e := protected(t, map[string]string{"ada": hash, "bob": hashed(t, "other", 4)}, nil)
	for protocol, client := range e.everyClient(t) {
		for _, c := range []struct {
			name, password string
			want           int
		}{{"ada", "secret", 200}, {"ada", "secret", 200}, {"ada", "other", 401}, {"bob", "other", 200}, {"bob", "secret", 401}, {"eve", "secret", 401}, {"ada", hash, 401}} {
			if status, err := try(t.Context(), client, c.name, c.password, ""); err != nil || status != c.want {
				t.Errorf("%s: %s with %s: %d %v", protocol, c.name, c.password, status, err)
			}
		}
	}
}

// A user who is taken out of the file gets in no more, without a reload, and what the user has opened ends; a file that cannot be read leaves the
// users that were there.
func TestUsersFollowTheirFile(t *testing.T) {
	t.Parallel()
	line := func(name string) string { return name + ":" + hashed(t, name, bcrypt.MinCost) + "\n" }
	file, cyd := filepath.Join(t.TempDir(), "staff.users"), line("cyd")
	write(t, file, []byte(line("ada")+cyd))
	opened := make(chan bool, 1)
	e := startFile(t, `sites: [{hosts: [localhost], basic_auth: {users_file: %q, users: {eve: %q}}, routes: [{to: %q}]}]`, file, hashed(t, "eve", bcrypt.MinCost), backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		_ = http.NewResponseController(w).Flush()
		opened <- true
		<-r.Context().Done()
	}))
	client := e.clients(t)["h2"]
	get := func(name string) int {
		response, _ := fetch(t, client, "GET", "https://localhost/", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(name+":"+name)))
		return response.StatusCode
	}
	ended := make(chan error, 1)
	go func() {
		request, _ := http.NewRequest("GET", "https://localhost/stream", nil)
		request.SetBasicAuth("ada", "ada")
		response, err := client.Do(request)
		if err == nil {
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		ended <- err
	}()
	<-opened

	write(t, file, []byte(line("bob")+cyd))
	for deadline := time.Now().Add(30 * time.Second); get("bob") != 200; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the new user is not let in")
		}
	}
	if get("ada") != 401 || get("cyd") != 200 || get("eve") != 200 {
		t.Error("the users are not those of the file and the configuration")
	}
	if err := <-ended; err == nil {
		t.Error("what a user has opened who is gone stays open")
	}

	write(t, file, []byte("ada:secret\n"))
	e.soonSaid(t, "staff.users", "cannot be used")
	if get("bob") != 200 || get("ada") != 401 {
		t.Error("a damaged file changes who may come")
	}
}
