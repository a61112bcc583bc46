package proxy_test

import (
	"fmt"
	"strings"
	"testing"
)

// oddRequests are requests of HTTP/1.1 that no two readers are sure to understand alike. Each goes with one that it might hide.
func oddRequests() map[string]string {
	cases := map[string]string{}
	line := func(text string) {
		cases[fmt.Sprintf("line %q", text)] = text + "\r\nHost: localhost\r\n\r\n" + smuggled
	}
	for _, version := range []string{
		"http/1.1", "HTTP/1.2", "HTTP/1.9", "HTTP/1.", "HTTP/1", "HTTP/", "HTTP", "HTTP/1.1.1", "HTTP/1.1x", "HTTP/01.1", "HTTP/1.01", "HTTP/1,1", "HTTP/ 1.1", "HTTP/-1.1", "HTTP/+1.1",
		"HTTP/3.0", "HTTP/0.9", "HTTP/11", "HTTPS/1.1", "ICAP/1.0", "RTSP/1.0", "SIP/2.0", "HTTP/1.1\x00", "\x00HTTP/1.1", "HTTP/1.1\x0b", "HTTP/1.1 ", " HTTP/1.1", "HTTP/1.1\t", "HTTP/1.1\r", "HTTP\\1.1", "HTTP/１.1",
	} {
		line("GET / " + version)
	}
	for _, target := range []string{
		"", "?x", "x", "../x", "*", "*/x", "http:/x", "http://", "http:///x", "http://localhost@evil/", "https://localhost:443@evil/", "http://localhost\\@evil/", "//\x00", "/\x0b", "/\x0c", "/\x00", "/\x1f",
		"/\x7f", "/\x80", "/\xff", "/ä", "/a\rX:y", "/ HTTP/1.1 ", "/#", "javascript:x", "file:///etc/passwd", "localhost:443/x", "ws://localhost/", "[::1]/", "http://[::1/", "http://local host/",
	} {
		line("GET " + target + " HTTP/1.1")
	}
	for _, method := range []string{
		"", " GET", "\tGET", "GET\t", "GET\x0b", "GET\x0c", "GET\x00", "\x00GET", "GÉT", "GET,", "GET:", "GET;", "(GET)", "[GET]", "{GET}", "<GET>", "GET@", "GET=", "GET?", "GET/", "\"GET\"", "GET\\", "\xefBB\xbfGET", "GET\r",
	} {
		line(method + " / HTTP/1.1")
	}
	for _, text := range []string{"GET", "GET /", "GET HTTP/1.1", "/ HTTP/1.1", "HTTP/1.1 200 OK", "GET / HTTP/1.1 HTTP/1.1", "GET  /  HTTP/1.1", "GET\r/ HTTP/1.1", "OPTIONS ** HTTP/1.1", "OPTIONS *?x HTTP/1.1", "\x16\x03\x01"} {
		line(text)
	}
	field := func(text string) {
		cases[fmt.Sprintf("field %q", text)] = "POST / HTTP/1.1\r\nHost: localhost\r\n" + text + "\r\nContent-Length: 0\r\n\r\n" + smuggled
	}
	for c := range 256 {
		b := string([]byte{byte(c)})
		switch {
		case strings.ContainsAny(b, "!#$%&'*+-.^_`|~0123456789:") || c|0x20 >= 'a' && c|0x20 <= 'z' && c < 128:
		case c >= 128 && c%16 != 0: // one of sixteen will do
		default:
			field("X" + b + "Y: z")
			field(b + "X: z")
		}
		if c < ' ' && c != '\t' || c == 0x7f {
			field("X: " + b + "y")
			field("X: y" + b)
			field("X:" + b)
		}
	}
	for _, text := range []string{
		"X", "X y", ":", ": ", " : y", "X :y", "X\t:y", "X \t : y", "X\r: y", " X: y", "\tX: y", "X: y\r\n z", "X: y\r\n\tz", "X: y\r\n \r\nZ: y", "X:\r\n y", "X: y\n", "X: y\r", "X: y\nZ: y", "X: y\rZ: y", "\r", "\n", "\x00",
		"X: y\r\n: z", "Host: localhost", "Host:", "Host: other", "host: localhost", "HOST : localhost", "Content-Length: 0", "Content-Length: 46", "content-length: 46", "Content-Length : 46", "\x0bContent-Length: 46",
		"Content-Length\x0b: 46", "Transfer-Encoding: chunked", "transfer-encoding: CHUNKED", "Transfer-Encoding : chunked", "Transfer-Encoding\x00: chunked", "Transfer-Encoding: \x00chunked", "\x00Transfer-Encoding: chunked",
		"Transfer-Encoding:\r\n chunked", "X: y\r\n Transfer-Encoding: chunked", "X: y\n Transfer-Encoding: chunked", "Transfer-Encoding\n: chunked", "X: y\rTransfer-Encoding: chunked", "Transfer-Encoding", "Transfer-Encoding:", "Tränsfer-Encoding: chunked",
	} {
		field(text)
	}
	post := func(fields, content string) {
		cases[fmt.Sprintf("%q %.40q", fields, content)] = "POST / HTTP/1.1\r\nHost: localhost\r\n" + fields + "\r\n\r\n" + content + smuggled
	}
	for _, length := range []string{
		"00000000000000000005", "9223372036854775807", "9223372036854775808", "18446744073709551621", "4294967296x", "5e0", "0b1", "0o5", "1'0", "1,0", "5.", ".5", "NaN", "inf", "-", "--1", "- 1", "+ 5", "５", "\x0b5", "5\x0c", "\xa05", "5\xa0",
		"5, ", ", 5", "5,", "5;5", "5 5", "5\t5", "5/5", "5:5", "null", "0x05", "05h", "(5)", "[5]", "5\u0660", "0, 0", "5, 05", "5,5,5", "bytes 5", "=5", "5=", "5#", "%35", "\\x35",
	} {
		post("Content-Length: "+length, "hello")
	}
	for _, coding := range []string{
		"chunked;", "chunked ;x", "chunked;x=y", "'chunked'", "identity, chunked", "chunked, gzip", "trailers, chunked", "chunked, x", "x, chunked", "chunked identity", "chunked\x7f", "chunked\xa0", "\xa0chunked", "c hunked", "chunked=", "=chunked",
		"compress", "deflate, chunked", "tchunked", "chunkedchunked", "chunked, ,", ", chunked", "null", "cow", "[chunked]", "(chunked)", "chunked\\", "chunked/1", "chunked.", "chunke", "chunked\u0000", "chunkéd", "chun\xadked", "chunked\r\n ", "chunked\r\n\t,gzip", "0", "true",
		"gzip", "br", "zstd, chunked", "http/1.1", "close",
	} {
		post("Transfer-Encoding: "+coding, "0\r\n\r\n")
	}
	for _, codings := range [][2]string{{"chunked", "identity"}, {"identity", "chunked"}, {"chunked", "chunked"}, {"gzip", "chunked"}, {"chunked", ""}, {"", "chunked"}} {
		post("Transfer-Encoding: "+codings[0]+"\r\nTransfer-Encoding: "+codings[1], "0\r\n\r\n")
		post("Transfer-Encoding: "+codings[0]+"\r\nX: y\r\ntransfer-encoding: "+codings[1], "0\r\n\r\n")
	}
	for _, lengths := range [][2]string{{"5", "6"}, {"5", "5"}, {"6", "5"}, {"0", "5"}, {"5", "0"}, {"5", ""}, {"", "5"}, {"5", "x"}} {
		post("Content-Length: "+lengths[0]+"\r\nContent-Length: "+lengths[1], "hello")
		post("Content-Length: "+lengths[0]+"\r\nX: y\r\ncontent-length: "+lengths[1], "hello")
	}
	for _, chunks := range []string{
		";x\r\n", "5\t\r\nhello\r\n", "5\t;x\r\nhello\r\n", "5\x0b\r\nhello\r\n", "5\x00\r\nhello\r\n", "\x005\r\nhello\r\n", "5.0\r\nhello\r\n", "５\r\nhello\r\n", "5h\r\nhello\r\n", "5 5\r\nhello\r\n", "5=\r\nhello\r\n", "5:x\r\nhello\r\n", "5,\r\nhello\r\n",
		"5;x\rY\r\nhello\r\n", "5;x\x7f\r\nhello\r\n", "5;x\x0b\r\nhello\r\n", "5\n\r\nhello\r\n", "\n5\r\nhello\r\n", "\r\n5\r\nhello\r\n", "0\n\n", "0\r\r\n", "0\n\r\n", "0 \r\n\r\n", "-0\r\n\r\n", "+0\r\n\r\n", "0x0\r\n\r\n", "00000000000000005\r\nhello\r\n", "7fffffffffffffff\r\n", "8000000000000000\r\n", "FFFFFFFFFFFFFFFF0\r\n",
		"5;\nx\r\nhello\r\n", "5;\"\n\"\r\nhello\r\n", "0;\n\r\n\r\n", "'5'\r\nhello\r\n", "\"5\"\r\nhello\r\n", "#5\r\n", "%35\r\nhello\r\n", "\xa05\r\nhello\r\n", "5\xa0\r\nhello\r\n", "five\r\nhello\r\n", "hello",
	} {
		post("Transfer-Encoding: chunked", chunks+"0\r\n\r\n")
	}
	for _, expect := range []string{"100-continue, 100-continue", "100-continue;q=1", "200-ok", "100", "continue", "\"100-continue\"", "100-continue, x", ""} {
		post("Content-Length: 5\r\nExpect: "+expect, "hello")
	}
	for _, version := range []string{"HTTP/1.0", "HTTP/1.1"} {
		for _, fields := range []string{"Transfer-Encoding: chunked\r\nContent-Length: 5", "Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5", "Transfer-Encoding: \r\nContent-Length: 5"} {
			cases[version+" "+fields] = "POST / " + version + "\r\nHost: localhost\r\n" + fields + "\r\n\r\n0\r\n\r\n" + smuggled
		}
	}
	return cases
}

// Whatever is odd about a request is told in one answer of our own, after which the connection ends; the backend hears nothing.
func TestNothingOddReachesABackend(t *testing.T) {
	t.Parallel()
	r := record(t)
	e := start(t, r.url(), nil)
	cases := oddRequests()
	for name, text := range cases {
		answer := e.say(t, text)
		if !strings.HasPrefix(answer, "HTTP/1.1 4") && !strings.HasPrefix(answer, "HTTP/1.1 501 ") && !strings.HasPrefix(answer, "HTTP/1.1 505 ") || strings.Count(answer, "\r\nDate: ") != 1 || !strings.Contains(answer, "\r\nConnection: close\r\n") {
			t.Errorf("%s: answered %.200q", name, answer)
		}
		if got := r.take(); got != "" {
			t.Errorf("%s: the backend saw %.200q", name, got)
		}
	}
	if len(cases) < 500 {
		t.Errorf("only %d cases: docs/security.md tells of more", len(cases))
	}
}

// A CR or LF too many or too few, wherever in a head it is, makes no request of it.
func TestStrayLineEndsAreRefusedInEveryPosition(t *testing.T) {
	r := record(t)
	e := start(t, r.url(), nil)
	const head = "POST /a HTTP/1.1\r\nHost: localhost\r\nX: y\r\nContent-Length: 5\r\n\r\n"
	texts := map[string]bool{}
	for i := range len(head) {
		for _, stray := range []string{"\r", "\n"} {
			texts[head[:i]+stray+head[i:]] = true
		}
		if c := head[i]; c == '\r' || c == '\n' {
			texts[head[:i]+head[i+1:]] = true
			texts[head[:i]+" "+head[i+1:]] = true
			texts[head[:i]+"\x00"+head[i+1:]] = true
		}
	}
	delete(texts, head+"\n") // which is the head, and content
	for text := range texts {
		answer := e.say(t, text+"hello"+smuggled)
		if !strings.HasPrefix(answer, "HTTP/1.1 400 ") && !strings.HasPrefix(answer, "HTTP/1.1 505 ") || strings.Count(answer, "\r\nDate: ") != 1 {
			t.Errorf("%q: answered %.200q", text, answer)
		}
		if got := r.take(); got != "" {
			t.Errorf("%q: the backend saw %.200q", text, got)
		}
	}
}
