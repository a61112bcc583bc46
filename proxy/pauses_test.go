package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"padlock/traffic"
)

// ownClient has a connection of its own, from an address of this machine, that holds little for who does not read.
func (e *edge) ownClient(t *testing.T, front, from string) *http.Client {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, "tcp", e.address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return conn, err
	}
	switch front {
	case "h1":
		one := &http.Transport{DialContext: dial, TLSClientConfig: e.tls()}
		t.Cleanup(one.CloseIdleConnections)
		return &http.Client{Transport: one}
	case "h2":
		two := &http.Transport{DialContext: dial, TLSClientConfig: e.tls(), Protocols: new(http.Protocols)}
		two.Protocols.SetHTTP2(true)
		t.Cleanup(two.CloseIdleConnections)
		return &http.Client{Transport: two}
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)})
	if err != nil {
		t.Fatal(err)
	}
	three := &http3.Transport{
		TLSClientConfig: e.tls(), QUICConfig: &quic.Config{MaxStreamReceiveWindow: 256 << 10, MaxConnectionReceiveWindow: 512 << 10},
		Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
			to, err := net.ResolveUDPAddr("udp", e.address)
			if err != nil {
				return nil, err
			}
			return quic.Dial(ctx, socket, to, c, q)
		},
	}
	t.Cleanup(func() { three.Close(); socket.Close() })
	return &http.Client{Transport: three}
}

// A client that takes nothing for longer than timeouts.body_idle gets the rest when it reads again, and nothing is buffered for it: the target waits
// as well. As many may pause as their address has a share of, whatever they speak; those beyond it are cut as slow readers are, and take nothing
// from other addresses.
func TestAClientMayPauseWithinItsShare(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789abcdef"), 24<<16) // 24 MiB: more than the system holds on the way
	sum := sha256.Sum256(content)
	for _, front := range fronts {
		t.Run(front, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64 // whole answers
			app := backend(t, func(w http.ResponseWriter, _ *http.Request) {
				if _, err := w.Write(content); err == nil {
					sent.Add(1)
				}
			})
			// 8 of an address may pause, and 16 in all.
			e := startFile(t, `
timeouts: {body_idle: 500ms, send: 5m}
limits: {connections: 100}
sites: [{hosts: [localhost], routes: [{to: %q}]}]
`, app)
			slow := func() uint64 { return e.server.Traffic().Rejected[traffic.SlowReader] }
			open := func(n int, from string) (all []*http.Response) {
				t.Helper()
				for range n {
					response, err := e.ownClient(t, front, from).Get("https://localhost/")
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { response.Body.Close() })
					all = append(all, response)
				}
				return all
			}
			wait := func(what string, is func() bool) {
				t.Helper()
				for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s: %d are cut, %d answers are sent", what, slow(), sent.Load())
					}
				}
			}

			paused := open(11, "127.0.0.1")
			wait("three of eleven", func() bool { return slow() >= 3 })
			others := open(1, "127.0.0.2")
			more := open(1, "127.0.0.1") // by whose end it is known that the other has paused for longer
			wait("one more of the same address", func() bool { return slow() >= 4 })
			if n := sent.Load(); n != 0 {
				t.Errorf("%d whole answers were taken from the target for those who do not read", n)
			}

			whole := func(responses []*http.Response) int {
				var done atomic.Int64
				var reading sync.WaitGroup
				for _, response := range responses {
					reading.Go(func() {
						got := sha256.New()
						if _, err := io.Copy(got, response.Body); err == nil && [sha256.Size]byte(got.Sum(nil)) == sum {
							done.Add(1)
						}
					})
				}
				reading.Wait()
				return int(done.Load())
			}
			if n := whole(others); n != 1 {
				t.Error("another address does not get its answer")
			}
			if n, last := whole(paused), whole(more); n+last != 8 || slow() != 4 {
				t.Errorf("%d of 12 answers are whole, and %d clients were rejected", n+last, slow())
			}
		})
	}
}
