package message

import (
	"bufio"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
)

// Whatever request we take, an HTTP/1.1 server to which it is forwarded reads as we did: as one message, with the same fields.
func FuzzFields(f *testing.F) {
	f.Add("GET", "https", "a", "/", "", "x-a", "b", "cookie", "c")
	f.Add("POST", "https", "a:80", "/a?b=%2F", "", "content-length", "3", "host", "a:80")
	f.Add("CONNECT", "https", "a", "/chat", "websocket", "te", "trailers", "trailer", "x")
	f.Add("GET", "http", "[::1]", "*", "", "cookie", "a", "cookie", "b")
	f.Fuzz(func(t *testing.T, method, scheme, authority, path, protocol, name, value, name2, value2 string) {
		b := Block{Limit: 8 << 10, Most: 200}
		for _, field := range [][2]string{{":method", method}, {":scheme", scheme}, {":authority", authority}, {":path", path}, {":protocol", protocol}, {name, value}, {name2, value2}} {
			if field[1] != "" || field[0][:min(1, len(field[0]))] != ":" {
				b.Add(field[0], field[1])
			}
		}
		var r Request
		if _, ok := b.Request(&r, "HTTP/2.0", false); !ok || b.TooLarge() || r.Method == "CONNECT" {
			return
		}
		var text strings.Builder
		text.WriteString(r.Method + " " + r.Target + " HTTP/1.1\r\nHost: " + r.Host + "\r\n")
		want := map[string]int{}
		for _, field := range b.Fields {
			text.WriteString(field.Name + ": " + field.Value + "\r\n")
			want[textproto.CanonicalMIMEHeaderKey(field.Name)]++
		}
		text.WriteString("\r\n")
		reader := bufio.NewReader(strings.NewReader(text.String() + "next"))
		theirs, err := http.ReadRequest(reader)
		if err != nil {
			if strings.Contains(err.Error(), "parse ") || strings.Contains(err.Error(), "invalid URL escape") || strings.Contains(err.Error(), "invalid URI") || strings.Contains(err.Error(), "bad trailer key") {
				return // it decodes the path, and knows trailers that we drop
			}
			t.Fatalf("net/http refuses %q: %v", text.String(), err)
		}
		if theirs.Method != r.Method || theirs.RequestURI != r.Target || theirs.Host != r.Host {
			t.Fatalf("%q is read as %s %s %s", text.String(), theirs.Method, theirs.RequestURI, theirs.Host)
		}
		for name, values := range theirs.Header {
			if len(values) != want[name] && name != "Cache-Control" && name != "Trailer" {
				t.Fatalf("%q: %d of %s, not %d", text.String(), len(values), name, want[name])
			}
		}
		if rest, _ := io.ReadAll(reader); string(rest) != "next" {
			t.Fatalf("%q is more or less than one message: %q is left", text.String(), rest)
		}
	})
}

// A client may cut its Cookie into a field for each cookie (RFC 9113 section 8.2.3): together they are one field, as they were before.
func TestACookieInPiecesIsOneField(t *testing.T) {
	for _, test := range []struct {
		cookies, others int
		tooLarge        bool
	}{{0, 10, false}, {1, 9, false}, {500, 9, false}, {500, 10, true}, {1, 10, true}, {0, 11, true}} {
		b := Block{Limit: 64 << 10, Most: 10}
		for name, value := range map[string]string{":method": "GET", ":scheme": "https", ":authority": "a", ":path": "/"} {
			b.Add(name, value)
		}
		for range test.others {
			b.Add("x-a", "b")
		}
		for range test.cookies {
			b.Add("cookie", "c=d")
		}
		if b.TooLarge() != test.tooLarge {
			t.Errorf("%+v", test)
		}
		var r Request
		if _, ok := b.Request(&r, "HTTP/2.0", true); !test.tooLarge && (!ok || len(b.Fields) > 10) {
			t.Errorf("%+v: %v, %d fields", test, ok, len(b.Fields))
		}
	}
	b := Block{Limit: 64 << 10, Most: 10}
	for range 10_000 { // bytes are limited all the same
		b.Add("cookie", "c=d")
	}
	if !b.TooLarge() {
		t.Error("ten thousand pieces are taken")
	}
}
