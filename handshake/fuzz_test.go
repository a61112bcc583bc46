package handshake

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzDissect takes what a client and a server may have sent. Whatever it is, an event comes out, in every format, safe to show.
// testdata/fuzz/FuzzDissect holds what real clients sent.
func FuzzDissect(f *testing.F) {
	r := NewRecorder(Options{})
	f.Cleanup(r.Close)
	addresses := &discardConn{Conn: pipe{}}
	f.Fuzz(func(t *testing.T, in, out []byte, kind byte) {
		if len(in)+len(out) > maxCapture {
			return
		}
		tr := &trace{traceData: traceData{id: 1, side: Server, conn: addresses, start: time.Now(), frozen: true}}
		if kind&1 != 0 {
			tr.side = Client
		}
		if kind&2 != 0 {
			tr.err, tr.done = errors.New("tls: failed\x1b[2J"), time.Millisecond
		}
		if kind&4 != 0 {
			tr.firstByte, tr.done = true, time.Millisecond
		}
		if kind&8 != 0 {
			tr.state = tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
			tr.secrets.clientLength, tr.secrets.serverLength = 32, 32
		}
		tr.append(0, false, in)
		tr.append(time.Millisecond, true, out)
		e := r.dissect(tr)
		line := AppendJSON(nil, e)
		if !json.Valid(line) {
			t.Fatalf("not JSON: %s", line)
		}
		for _, text := range []string{story(e, false, 0), story(e, false, 80), string(line), e.SNI} {
			if !utf8.ValidString(text) || bytes.ContainsAny([]byte(text), "\x00\x07\x1b\r") {
				t.Fatalf("not safe to show: %q", text)
			}
		}
	})
}

// pipe has addresses and nothing else.
type pipe struct{ net.Conn }

func (pipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (pipe) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 443} }

// FuzzCertificate takes what may stand in a Certificate message.
func FuzzCertificate(f *testing.F) {
	f.Add(serverConfig(f).Certificates[0].Certificate[0], "localhost")
	f.Fuzz(func(t *testing.T, der []byte, name string) {
		if c := describe([][]byte{der, der}, extras{}); c != nil {
			c.against(name, time.Now())
			if !utf8.ValidString(certificateText(c)) {
				t.Fatal("not safe to show")
			}
		}
	})
}

// FuzzRecognise takes what a client may send first.
func FuzzRecognise(f *testing.F) {
	for _, seed := range firstBytes {
		f.Add([]byte(seed.bytes))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		if kind := Recognise(head); protocolNamed(kind).kind != kind {
			t.Fatalf("%q is no kind", kind)
		}
		if !utf8.ValidString(excerpt(head)) {
			t.Fatal("not safe to show")
		}
	})
}
