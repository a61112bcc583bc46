package proxy

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"padlock/config"
	"padlock/proxy/message"
)

// script is a connection on which everything has come.
type script struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error) { return s.out.Write(p) }

// What comes before TLS is hostile: whatever it is, nothing of it is lost to TLS but what was looked for.
func FuzzPreface(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n\x16\x03\x01"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02rest"))
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f\x16\x03\x01"))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &script{in: bytes.NewReader(data)}
		c := &clientConn{Conn: s}
		if err := c.readProxyHeader(); err == nil {
			used := len(data) - s.in.Len()
			if used < 15 || used > 16+maxProxyV2 {
				t.Errorf("a header of %d bytes", used)
			}
		}
		s = &script{in: bytes.NewReader(data)}
		c = &clientConn{Conn: s}
		if c.answerSSLRequest() && !c.startTLS {
			if all, _ := io.ReadAll(io.MultiReader(bytes.NewReader(c.replay), s.in)); !bytes.Equal(all, data) && s.out.Len() == 0 {
				t.Errorf("%q was read again as %q", data, all)
			}
		}
		s = &script{in: bytes.NewReader(data)}
		c = &clientConn{Conn: s}
		name, ok := c.peekName()
		if !ok && name != "" {
			t.Errorf("a name of no hello: %q", name)
		}
		if all, _ := io.ReadAll(io.MultiReader(bytes.NewReader(c.replay), s.in)); !bytes.Equal(all, data) {
			t.Errorf("%q was read again as %q", data, all)
		}
	})
}

// Whatever a client or a proxy writes into these fields: the client is an address that they name, or unknown; never the
// proxy that wrote neither.
func FuzzWhoTheClientIs(f *testing.F) {
	f.Add("1.2.3.4, 10.0.0.1", `for="[2001:db8::1]:80";by=x, for=unknown`)
	f.Add(`",`, `for="a\",b"`)
	trusted := []config.Network{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
	f.Fuzz(func(t *testing.T, chain, forwarded string) {
		r, _ := arrived("app.test")
		r.Conn.Client, r.Conn.Addr = "10.0.0.9", netip.MustParseAddr("10.0.0.9")
		r.Fields = message.Fields{{Name: "X-Forwarded-For", Value: chain}, {Name: "Forwarded", Value: forwarded}}
		x := &exchange{request: r}
		x.identify(trusted)
		if addr, _ := netip.ParseAddr(r.Client); addr != x.addr || addr == r.Conn.Addr && !strings.Contains(chain+forwarded, "9") {
			t.Errorf("the client is %q, %v", r.Client, x.addr)
		}
	})
}

// Whatever a target sends in the place of frames, all of it passes until we leave, and nothing after our goodbye.
func FuzzVoice(f *testing.F) {
	f.Add([]byte("\x81\x05hello"), 3)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		h := &heard{}
		v := &voice{Tunnel: h}
		at := min(max(cut, 0), len(data))
		_, _ = v.Write(data[:at])
		v.goodbye()
		_, _ = v.Write(data[at:])
		got := h.Bytes()
		if bytes.HasSuffix(got, goingAway) && !bytes.HasPrefix(data, got) {
			got = got[:len(got)-len(goingAway)]
		}
		if !bytes.HasPrefix(data, got) {
			t.Errorf("%x became %x", data, h.Bytes())
		}
	})
}
