package handshake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// serverConfig has a certificate for localhost.
func serverConfig(tb testing.TB) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"}}
}

// capture makes one real handshake and returns its trace before it is dissected.
func capture(tb testing.TB, r *Recorder, config *tls.Config) *trace {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"h2", "http/1.1"}})
		if err == nil {
			_, _ = conn.Write([]byte("x"))
			_, _ = conn.Read(make([]byte, 1))
		}
	}()
	raw, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { raw.Close() })
	c := r.Wrap(raw)
	own := config.Clone()
	own.KeyLogWriter = r
	own.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c.Certificate(&config.Certificates[0])
		return &config.Certificates[0], nil
	}
	own.Certificates = nil
	own.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { return c.Hello(own), nil }
	conn := tls.Server(c, own)
	err = conn.Handshake()
	c.Done(conn.ConnectionState(), err)
	_, _ = conn.Read(make([]byte, 1))
	t := c.trace.Swap(nil)
	t.mu.Lock()
	t.frozen, t.firstByte, t.end = true, true, time.Since(t.start)
	r.keys.remove(t.random)
	t.mu.Unlock()
	return t
}

// What happens off the connection's path: dissection and one line of JSON.
func BenchmarkDissectAndJSON(b *testing.B) {
	r := NewRecorder(Options{})
	defer r.Close()
	t := capture(b, r, serverConfig(b))
	sink := NewJSON(io.Discard)
	b.ReportAllocs()
	for b.Loop() {
		sink.Handshake(r.dissect(t))
	}
}

// What the connection's path does for one handshake, beside crypto/tls's own work: the calls that a full TLS 1.3 handshake makes.
func BenchmarkCapture(b *testing.B) {
	r := NewRecorder(Options{Queue: 1 << 16})
	defer r.Close()
	config := serverConfig(b)
	t := capture(b, r, config)
	hello, flight := append([]byte(nil), t.in...), append([]byte(nil), t.out...)
	random := append([]byte(nil), t.random[:]...)
	lines := make([][]byte, 0, 4)
	for _, label := range []string{"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} {
		lines = append(lines, []byte(label+" "+hexText(random)+" "+hexText(make([]byte, 32))+"\n"))
	}
	below := &discardConn{Conn: t.conn}
	buffer := make([]byte, len(hello))
	b.ReportAllocs()
	for b.Loop() {
		below.next = hello
		c := r.Wrap(below)
		_, _ = c.Read(buffer)
		policy := c.Hello(config)
		c.Certificate(&policy.Certificates[0])
		for _, line := range lines {
			_, _ = r.Write(line)
		}
		_, _ = c.Write(flight)
		below.next = hello[:80]
		_, _ = c.Read(buffer)
		c.Done(tls.ConnectionState{}, nil)
		// What FirstByte does, without the worker, whose time is not this path's.
		t := c.trace.Swap(nil)
		t.mu.Lock()
		t.frozen = true
		r.keys.remove(t.random)
		t.mu.Unlock()
		t.release()
	}
}

func hexText(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

type discardConn struct {
	net.Conn
	next []byte
}

func (d *discardConn) Read(p []byte) (int, error)  { return copy(p, d.next), nil }
func (d *discardConn) Write(p []byte) (int, error) { return len(p), nil }

// A whole handshake over loopback, both sides, without recording and with it.
func BenchmarkHandshake(b *testing.B) {
	for _, c := range []struct {
		name   string
		record bool
		keyLog io.Writer
	}{{"plain", false, nil}, {"plain with key log", false, io.Discard}, {"recorded", true, nil}} {
		b.Run(c.name, func(b *testing.B) {
			r := NewRecorder(Options{})
			defer r.Close()
			config := serverConfig(b)
			config.KeyLogWriter = c.keyLog
			if c.record {
				config.KeyLogWriter = r
			}
			listener := config.Clone()
			listener.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				if own, ok := FromHello(h); ok {
					return own.Hello(config), nil
				}
				return config, nil
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			client := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.X25519}}
			b.ReportAllocs()
			for b.Loop() {
				go func() {
					conn, err := tls.Dial("tcp", l.Addr().String(), client)
					if err == nil {
						conn.Close()
					}
				}()
				raw, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				if c.record {
					raw = r.Wrap(raw)
				}
				conn := tls.Server(raw, listener)
				if err := conn.Handshake(); err != nil {
					b.Fatal(err)
				}
				if own, ok := raw.(*Conn); ok {
					own.Done(conn.ConnectionState(), nil)
					own.FirstByte()
				}
				conn.Close()
			}
		})
	}
}

// What a connection keeps of its record once it is frozen.
func TestARecordedConnectionKeepsLittleMemory(t *testing.T) {
	r := NewRecorder(Options{})
	defer r.Close()
	below := &discardConn{}
	const n = 1000
	conns := make([]*Conn, n)
	bytes := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i := range conns {
				conns[i] = &Conn{Conn: below, recorder: r}
			}
		}
	}).AllocedBytesPerOp() / n
	if bytes > 512 {
		t.Errorf("%d bytes", bytes)
	}
	t.Logf("%d bytes a connection", bytes)
}
