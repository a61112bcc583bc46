package gateway

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"padlock/config"
	"padlock/proxy/message"
)

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
		x := &Exchange{request: r}
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
		v := &closeInjector{Tunnel: h}
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
