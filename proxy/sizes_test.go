package proxy_test

import (
	"fmt"
	"strings"
	"testing"
)

// Heads are read up to 64 KiB and 200 fields, whatever fills them: a byte or a field more is told with 431, and the target does not hear of it.
func TestLargeHeadsAreRefused(t *testing.T) {
	r := record(t)
	e := start(t, r.url(), nil)
	whole := func(fields string) string {
		return "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + fields + "\r\n"
	}
	fill := func(size int) string {
		rest := size - len(whole("Cookie: \r\n"))
		return whole("Cookie: " + strings.Repeat("c", rest) + "\r\n")
	}
	lines := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "X-%d: y\r\n", i)
		}
		return whole(b.String())
	}
	for what, test := range map[string]struct {
		text string
		want string
	}{
		"64 KiB":                      {fill(64 << 10), "200"},
		"64 KiB less a byte":          {fill(64<<10 - 1), "200"},
		"64 KiB and a byte":           {fill(64<<10 + 1), "431"},
		"a megabyte":                  {fill(1 << 20), "431"},
		"200 fields":                  {lines(198), "200"}, // with Host and Connection
		"201 fields":                  {lines(199), "431"},
		"many cookies":                {whole(strings.Repeat("Cookie: a=b\r\n", 300)), "431"},
		"a long target":               {"GET /?" + strings.Repeat("a=b&", 20<<10) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "431"},
		"many parameters":             {"GET /?" + strings.Repeat("a=b&", 10<<10) + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "200"},
		"a long method":               {strings.Repeat("G", 70<<10) + " / HTTP/1.1\r\nHost: localhost\r\n\r\n", "431"},
		"a name without an end":       {"GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X", 70<<10), "431"},
		"a line without an end":       {strings.Repeat("G", 70<<10), "431"},
		"trailers that are too large": {"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 201) + "\r\n", "400"},
		"a trailer of a megabyte":     {"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("y", 1<<20) + "\r\n\r\n", "400"},
	} {
		answer := e.say(t, test.text)
		if !strings.HasPrefix(answer, "HTTP/1.1 "+test.want+" ") {
			t.Errorf("%s: answered %.100q, not %s", what, answer, test.want)
		}
		if got := r.take(); strings.Contains(got, "GET") != (test.want == "200") || strings.HasSuffix(got, "0\r\n\r\n") {
			t.Errorf("%s: the target saw %.100q", what, got)
		}
	}
	pairs := func(n int) (all []string) {
		all = with()
		for i := range n {
			all = append(all, fmt.Sprintf("x-%d", i), "y")
		}
		return all
	}
	for name, ask := range e.fronts(t) {
		for what, test := range map[string]struct {
			fields []string
			want   bool
		}{
			"32 KiB":           {with("x", strings.Repeat("x", 32<<10)), true},
			"130 KiB":          {with("x", strings.Repeat("x", 130<<10)), false},
			"a megabyte":       {with("x", strings.Repeat("x", 1<<20)), false},
			"200 fields":       {pairs(200), true},
			"201 fields":       {pairs(201), false},
			"thousands":        {pairs(5000), false},
			"a long path":      {set(":path", "/"+strings.Repeat("x", 130<<10)), false},
			"a long authority": {set(":authority", strings.Repeat("x", 130<<10)), false},
		} {
			o := ask(forged{fields: test.fields})
			if test.want != (o.status == "200") || !test.want && !o.reset && o.status != "431" {
				t.Errorf("%s: %s: %s, reset %v", name, what, o.status, o.reset)
			}
			if got := r.take(); (got != "") != test.want {
				t.Errorf("%s: %s: the target saw %.100q", name, what, got)
			}
		}
	}
}

// A response may have 10 interim ones before it and a head of 256 KiB; with more it is a 502.
func TestLargeHeadsOfResponsesAreRefused(t *testing.T) {
	const interim, rest = "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
	large := func(size int) string {
		const head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: \r\n\r\n"
		return strings.Replace(head, "X: ", "X: "+strings.Repeat("x", size-len(head)), 1) + "good"
	}
	for _, test := range []struct{ text, want string }{
		{strings.Repeat(interim, 10) + rest, "200"}, {strings.Repeat(interim, 11) + rest, "502"}, {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 11) + rest, "502"}, {large(256 << 10), "200"}, {large(256<<10 + 1), "502"},
	} {
		s := script(t, test.text)
		e := start(t, "http://"+s.Addr().String(), nil)
		answer := e.say(t, "GET /0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		last := answer[strings.LastIndex(answer, "HTTP/1.1 "):]
		if !strings.HasPrefix(last, "HTTP/1.1 "+test.want+" ") || strings.Contains(answer, "good") != (test.want == "200") {
			t.Errorf("%.50q (%d bytes): answered %.100q", test.text, len(test.text), last)
		}
	}
}
