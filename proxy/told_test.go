package proxy_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"padlock/certs/localca"
	"padlock/config"
	"padlock/handshake"
	"padlock/proxy"
)

// recorded is an edge whose handshakes can be waited for.
func recorded(t *testing.T, change func(*config.Config)) (*edge, func(id uint64) *handshake.Event) {
	t.Helper()
	recent := handshake.NewRecent(16)
	recorder := handshake.NewRecorder(handshake.Options{Sinks: []handshake.Sink{recent}})
	t.Cleanup(recorder.Close)
	e := startWith(t, "127.0.0.1:1", change, func(_ *localca.CA, deps *proxy.Dependencies) { deps.Recorder = recorder })
	return e, func(id uint64) *handshake.Event {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		event, err := recent.Wait(ctx, id)
		if err != nil {
			t.Fatalf("nothing was told: %v", err)
		}
		return event
	}
}

// No connection ends without being told, be it none that padlock can serve.
func TestNoConnectionEndsUntold(t *testing.T) {
	sent := func(address, text string) func(*testing.T, *edge) {
		return func(t *testing.T, e *edge) {
			at := e.address
			if address == "plain" {
				at = e.plain
			}
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.WriteString(c, text)
			if text == "" {
				return
			}
			_, _ = io.Copy(io.Discard, c)
		}
	}
	secure := func(address, name, before string) func(*testing.T, *edge) {
		return func(t *testing.T, e *edge) {
			at := e.address
			if address == "plain" {
				at = e.plain
			}
			raw, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
			if before != "" {
				_, _ = io.WriteString(raw, before)
				_, _ = io.ReadFull(raw, make([]byte, 1))
			}
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: name})
			if c.Handshake() == nil {
				_, _ = io.Copy(io.Discard, c)
			}
		}
	}
	postgres := func(cfg *config.Config) {
		target, _ := config.ParseTarget("127.0.0.1:1")
		database := config.Site{Hosts: []string{"db.localhost"}, TCP: &config.TCP{StartTLS: "postgres"}}
		database.TCP.To = []config.Backend{{Target: target}}
		database.TCP.Idle = time.Minute
		cfg.Sites = append(cfg.Sites, database)
	}
	for name, c := range map[string]struct {
		change      func(*config.Config)
		client      func(*testing.T, *edge)
		noise       string
		by          handshake.Side
		cause, then string // of the cause and of the remedy
	}{
		"TLS on the port of plain HTTP":                {nil, secure("plain", "localhost", ""), "tls_on_plain", handshake.Server, "TLS on the port of plain HTTP", "for https://"},
		"a version of QUIC that is not known":          {nil, unknownQUIC, "quic_version", handshake.Server, "a version of QUIC", "comes back"},
		"a database's client that says nothing":        {postgres, sent("", ""), "scan", handshake.Client, "without a byte", "nothing"},
		"a database that is away":                      {postgres, secure("", "db.localhost", "\x00\x00\x00\x08\x04\xd2\x16\x2f"), "", handshake.Server, "before it was forwarded", "target runs"},
		"an SSLRequest for a site that is no database": {postgres, secure("", "localhost", "\x00\x00\x00\x08\x04\xd2\x16\x2f"), "", handshake.Server, "no database: localhost", "name the database's site"},
		"an SSLRequest where no site is a database":    {nil, sent("", "\x00\x00\x00\x08\x04\xd2\x16\x2f"), "postgres", handshake.Server, "PostgreSQL's protocol", "starttls"},
		"a balancer's look": {func(cfg *config.Config) {
			cfg.Listen.ProxyProtocol.From = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
		},
			sent("", ""), "scan", handshake.Client, "without a byte", "nothing"},
		"a balancer without its header": {func(cfg *config.Config) {
			cfg.Listen.ProxyProtocol.From = []config.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
		},
			sent("", "GET / HTTP/1.1\r\n\r\n"), "no_proxy", handshake.Server, `it began with "GET /`, "listen.proxy_protocol.from"},
	} {
		t.Run(name, func(t *testing.T) {
			e, told := recorded(t, c.change)
			c.client(t, e)
			event := told(1)
			f := event.Failure
			if f == nil || event.Noise != c.noise || f.By != c.by || !strings.Contains(f.Cause, c.cause) || !strings.Contains(f.Remedy, c.then) {
				t.Errorf("%s %q %+v", event.Outcome, event.Noise, f)
			}
		})
	}
}

// unknownQUIC sends the beginning of a connection in a version that is reserved for this (RFC 9000 section 15).
func unknownQUIC(t *testing.T, e *edge) {
	c, err := net.Dial("udp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	packet := make([]byte, 1250)
	packet[0] = 0xc0
	binary.BigEndian.PutUint32(packet[1:], 0x1a2a3a4a)
	packet[5], packet[14] = 8, 8                                                                                 // lengths of the connection IDs
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) { // UDP may lose it, or not be open yet
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(packet)
		if n, err := c.Read(make([]byte, 1500)); err == nil && n > 5 {
			return
		}
	}
	t.Fatal("no version was offered")
}

// A TCP site's handshake is complete with the first byte of either side, so that a client that rejects the certificate only then is told
// as one.
func TestAServiceMayBeRejectedAfterTheHandshake(t *testing.T) {
	quiet := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	greeting := serveTCP(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 ready\r\n"); _, _ = io.Copy(io.Discard, c) })
	for target, want := range map[string]handshake.Outcome{quiet: handshake.Silent, greeting: handshake.Complete} {
		e, told := recorded(t, func(cfg *config.Config) {
			to, err := config.ParseTarget(target)
			if err != nil {
				t.Fatal(err)
			}
			site := config.Site{Hosts: []string{"db.localhost"}, TCP: &config.TCP{}}
			site.TCP.To, site.TCP.Idle = []config.Backend{{Target: to}}, time.Minute
			cfg.Sites = append(cfg.Sites, site)
		})
		c := e.dialTLS(t, "db.localhost")
		if want == handshake.Complete {
			_, _ = c.Read(make([]byte, 3))
		}
		c.Close()
		if event := told(1); event.Outcome != want {
			t.Errorf("%s, and not %s: %+v", event.Outcome, want, event.Failure)
		}
	}
}
