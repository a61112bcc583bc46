package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/config"
	"padlock/internal/servicetest"
	"padlock/proxy/message"
)

// tally is a socket that counts what passes, and may keep answers from whoever reads.
type tally struct {
	net.PacketConn
	deaf           bool
	sent, received atomic.Int64
	retries        atomic.Int32
}

func newTally(t *testing.T, deaf bool) *tally {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return &tally{PacketConn: socket, deaf: deaf}
}

func (c *tally) WriteTo(p []byte, to net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(p, to)
	c.sent.Add(int64(n))
	return n, err
}

// isRetry: a long header of type 3, in version 1 (RFC 9000 section 17.2.5).
func isRetry(p []byte) bool { return len(p) > 5 && p[0]&0xf0 == 0xf0 && p[4] == 1 }

func (c *tally) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(p)
		if err != nil {
			return n, from, err
		}
		c.received.Add(int64(n))
		if isRetry(p[:n]) {
			c.retries.Add(1)
		}
		if !c.deaf {
			return n, from, nil
		}
	}
}

// dial makes a connection by a socket of its own.
func (e *edge) dialQUIC(ctx context.Context, c *tally, config *tls.Config) (*quic.Conn, error) {
	transport := &quic.Transport{Conn: c}
	address, err := net.ResolveUDPAddr("udp", e.address)
	if err != nil {
		return nil, err
	}
	config.NextProtos = []string{"h3"}
	conn, err := transport.Dial(ctx, address, config, &quic.Config{HandshakeIdleTimeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(conn.Context(), func() { _ = transport.Close() })
	return conn, nil
}

// Where something is counted by address, an address is proved before it counts: whoever makes up addresses would use up others' shares.
func TestAnAddressIsProvedBeforeItCounts(t *testing.T) {
	for what, change := range map[string]func(*config.Config){
		"connections": func(c *config.Config) { c.Limits.PerAddress = 100 },
		"names":       func(c *config.Config) { c.Certificates.OnDemand = &config.OnDemand{Allow: []string{"*.shop.example"}} },
	} {
		e := start(t, named(t, "app"), change)
		c := newTally(t, false)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err := e.dialQUIC(ctx, c, e.tls())
		if err != nil {
			t.Fatal(what, err)
		}
		_ = conn.CloseWithError(0, "")
		if c.retries.Load() == 0 {
			t.Errorf("%s are counted by addresses that nobody has proved", what)
		}
	}
}

// Under many handshakes that are not completed, as from made-up addresses, others prove theirs by a Retry and get in; until an address is
// proved, it is sent at most three times what came from it (RFC 9000 section 8.1). When the many have gone, nobody is asked any more.
func TestAddressesAreProvedUnderLoad(t *testing.T) {
	t.Parallel()
	e := start(t, named(t, "app"), func(c *config.Config) { c.Timeouts.Handshake = 6 * time.Second })
	// connects makes a connection, and returns how often it was asked for a proof. On a machine that is busy elsewhere, one of the two
	// hundred's packets may take the place of its own for as long as it waits: it tries again.
	deadline := time.Now().Add(time.Minute)
	var connects func() int32
	connects = func() (retries int32) {
		t.Helper()
		c := newTally(t, false)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err := e.dialQUIC(ctx, c, e.tls())
		if err != nil && time.Now().Before(deadline) {
			return connects()
		} else if err != nil {
			t.Fatal(err)
		}
		_ = conn.CloseWithError(0, "")
		return c.retries.Load()
	}
	if n := connects(); n != 0 {
		t.Fatalf("%d Retry packets without any load", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var deaf []*tally
	var all sync.WaitGroup
	for range 200 {
		c := newTally(t, true)
		deaf = append(deaf, c)
		all.Go(func() {
			if _, err := e.dialQUIC(ctx, c, e.tls()); err == nil {
				t.Error("a connection without an answer")
			}
		})
	}
	defer all.Wait()
	defer cancel()
	for connects() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("nobody is asked to prove an address")
		}
	}
	asked := 0
	for _, c := range deaf {
		if c.retries.Load() > 0 {
			asked++
		}
	}
	if asked == 0 {
		t.Error("none of the many was asked to prove its address")
	}
	for connects() > 0 { // until the handshakes of the many have timed out
		if time.Now().After(deadline) {
			t.Fatal("long after the load, clients are still asked to prove their address")
		}
		time.Sleep(100 * time.Millisecond)
	}
	for i, c := range deaf {
		if sent, received := c.sent.Load(), c.received.Load(); received > 3*sent {
			t.Errorf("client %d sent %d bytes and was sent %d", i, sent, received)
		}
	}
}

// tickets counts what could be used for data in the first flight.
type tickets struct {
	tls.ClientSessionCache
	early atomic.Int32
	put   chan struct{}
}

func (c *tickets) Put(key string, session *tls.ClientSessionState) {
	if session != nil {
		if _, state, err := session.ResumptionState(); err == nil && state != nil && state.EarlyData {
			c.early.Add(1)
		}
	}
	c.ClientSessionCache.Put(key, session)
	select {
	case c.put <- struct{}{}:
	default:
	}
}

// Nothing can be sent in the first flight, where it could be sent again by whoever has recorded it: tickets do not allow it, and a client
// that does so all the same is not heard.
func TestEarlyDataIsNeverTaken(t *testing.T) {
	r := record(t)
	e := start(t, r.url(), nil)
	sessions := &tickets{ClientSessionCache: tls.NewLRUClientSessionCache(8), put: make(chan struct{}, 8)}
	for i := range 3 {
		c := e.tls()
		c.NextProtos, c.ClientSessionCache = []string{"h3"}, sessions
		conn, err := quic.DialAddrEarly(t.Context(), e.address, c, servicetest.Patient(nil))
		if err != nil {
			t.Fatal(err)
		}
		<-conn.HandshakeComplete()
		if state := conn.ConnectionState(); state.Used0RTT || state.TLS.DidResume != (i > 0) {
			t.Errorf("connection %d: early data %v, resumed %v", i, state.Used0RTT, state.TLS.DidResume)
		}
		<-sessions.put
		_ = conn.CloseWithError(0, "")
	}
	if n := sessions.early.Load(); n > 0 {
		t.Errorf("%d tickets allow early data", n)
	}
	// TLS 1.3 over TCP, by hand: an application_data record behind a hello, as early data would be, is refused or passed over unread.
	raw, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	early := append([]byte{23, 3, 3, 0, byte(len(smuggled))}, smuggled...)
	conn := tls.Client(&behind{Conn: raw, more: early}, e.tls())
	err = conn.Handshake()
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	var alert net.Error
	if err == nil || errors.As(err, &alert) && alert.Timeout() || !strings.Contains(err.Error(), "remote error: tls:") {
		t.Errorf("data behind the hello: %v", err)
	}
	if got := r.take(); got != "" {
		t.Errorf("the backend saw %q", got)
	}
}

// behind writes more behind what is written first.
type behind struct {
	net.Conn
	more []byte
}

func (c *behind) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(append(append([]byte(nil), p...), c.more...))
	c.more = nil
	return min(n, len(p)), err
}

// dialFrom makes a connection from an address.
func (e *edge) dialFrom(t *testing.T, address string) (*quic.Conn, error) {
	t.Helper()
	target, err := net.ResolveUDPAddr("udp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	c := e.tls()
	c.NextProtos = []string{"h3"}
	return transportFrom(t, address).Dial(t.Context(), target, c, servicetest.Patient(nil))
}

func transportFrom(t *testing.T, address string) *quic.Transport {
	t.Helper()
	socket, err := net.ListenPacket("udp", address+":0")
	if err != nil {
		if runtime.GOOS == "linux" {
			t.Fatal(err)
		}
		t.Skip(err) // only Linux has all of 127.0.0.0/8
	}
	transport := &quic.Transport{Conn: socket}
	t.Cleanup(func() { transport.Close(); socket.Close() })
	return transport
}

// Who may come is decided by where a client is: one that moves its connection to another address, as QUIC's clients may, is judged there, and
// is no better known than the proxy through which it comes from then on.
func TestAClientThatMovesIsJudgedWhereItIs(t *testing.T) {
	t.Parallel()
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	})
	for what, c := range map[string]struct{ text, want string }{
		"nothing is refused":         {"sites: [{hosts: [localhost], routes: [{to: %q}]}]", "200 127.0.0.2"},
		"its new address is denied":  {"sites: [{hosts: [localhost], deny: [127.0.0.2], routes: [{to: %q}]}]", "403"},
		"it comes through the proxy": {"listen: {proxy_protocol: {from: [127.0.0.2]}}\nsites: [{hosts: [localhost], allow: [127.0.0.0/8], routes: [{to: %q}]}]", "403"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := startFile(t, c.text, target)
			conn, err := e.dialFrom(t, "127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			client := (&http3.Transport{}).NewClientConn(conn)
			get := func() string {
				request, _ := http.NewRequestWithContext(t.Context(), "GET", "https://localhost/", nil)
				response, err := client.RoundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				content, _ := io.ReadAll(response.Body)
				return fmt.Sprint(response.StatusCode, " ", string(content))
			}
			if got := get(); got != "200 127.0.0.1" {
				t.Fatalf("before it moves: %s", got)
			}

			path, err := conn.AddPath(transportFrom(t, "127.0.0.2"))
			if err == nil {
				err = path.Probe(t.Context())
			}
			if err == nil {
				err = path.Switch()
			}
			if err != nil {
				t.Fatal(err)
			}
			// The first packet from there takes the connection along, which may be the one that brings a request.
			_ = get()
			if got := get(); !strings.HasPrefix(got, c.want) {
				t.Errorf("where it has moved: %s, not %s", got, c.want)
			}
		})
	}
}

// A WebSocket of a client that moves ends where it may not come, at the first byte in either direction, and goes on where it may.
func TestAWebSocketOfAClientThatMovesIsJudgedWhereItIs(t *testing.T) {
	t.Parallel()
	const frame = "\x82\x05hello"
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+
			message.WebSocketAccept(r.Header.Get("Sec-Websocket-Key"))+"\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	})
	for what, c := range map[string]struct {
		rule string
		ends bool
	}{"nothing is refused": {"", false}, "its new address is denied": {"deny: [127.0.0.2], ", true}} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := startFile(t, "sites: [{hosts: [localhost], "+c.rule+"routes: [{to: %q}]}]", target)
			conn, err := e.dialFrom(t, "127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			stream, err := (&http3.Transport{}).NewClientConn(conn).OpenRequestStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			request, _ := http.NewRequestWithContext(t.Context(), "CONNECT", "https://localhost/", nil)
			request.Proto = "websocket"
			request.Header.Set("Sec-WebSocket-Version", "13")
			if err = stream.SendRequestHeader(request); err != nil {
				t.Fatal(err)
			}
			if response, err := stream.ReadResponse(); err != nil || response.StatusCode != 200 {
				t.Fatal(response, err)
			}
			say := func() error {
				if _, err := io.WriteString(stream, frame); err != nil {
					return err
				}
				_, err := io.ReadFull(stream, make([]byte, len(frame)))
				return err
			}
			if err := say(); err != nil {
				t.Fatal("before it moves:", err)
			}

			path, err := conn.AddPath(transportFrom(t, "127.0.0.2"))
			if err == nil {
				err = path.Probe(t.Context())
			}
			if err == nil {
				err = path.Switch()
			}
			if err != nil {
				t.Fatal(err)
			}
			// The first packet from there takes the connection along.
			if err = say(); err == nil {
				err = say()
			}
			if (err != nil) != c.ends {
				t.Errorf("where it has moved: %v", err)
			}
		})
	}
}

// QUIC has no PROXY header: whoever comes from where one has to come is not taken for the proxy.
func TestAProxysConnectionsOfQUICAreRefused(t *testing.T) {
	t.Parallel()
	e := startFile(t, "listen: {proxy_protocol: {from: [127.0.0.2]}}\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]")
	if conn, err := e.dialFrom(t, "127.0.0.1"); err != nil {
		t.Error("another address:", err)
	} else {
		_ = conn.CloseWithError(0, "")
	}
	var refused *quic.TransportError
	if _, err := e.dialFrom(t, "127.0.0.2"); !errors.As(err, &refused) || refused.ErrorCode != quic.ConnectionRefused {
		t.Errorf("the proxy's address: %v", err)
	}
}
