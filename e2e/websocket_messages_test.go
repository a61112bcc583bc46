//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// exchanged is a case in which the client says something, and then the target, and then both have ended.
func exchanged(name string, up, down []byte) wsCase {
	return wsCase{
		name:   name,
		target: func(p *wsPeer) { p.accept(); p.hear(up); p.say(down); p.end() },
		client: func(v *wsClient) { v.say(up); v.hear(down); must(v.t, v.end()); v.properly() },
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// noise is content that does not compress, and differs everywhere.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

// letters is noise that is text too.
func letters(n int) string {
	b := []byte(noise(n))
	for i := range b {
		b[i] = 'a' + b[i]&15
	}
	return string(b)
}

func messages() []wsCase {
	var cases []wsCase
	for _, size := range []struct {
		n    int
		name string
	}{{0, "nothing"}, {1, "one byte"}, {125, "125 bytes, the most of a short length"}, {126, "126 bytes, the least of a length in two bytes"},
		{65535, "65,535 bytes, the most of a length in two bytes"}, {65536, "65,536 bytes, the least of a length in eight"}, {1 << 20, "1 MiB"}} {
		text, blob := letters(size.n), noise(size.n)
		cases = append(cases,
			exchanged("a text of "+size.name, up(fin|opText, text), down(fin|opText, text)),
			exchanged("a binary message of "+size.name, up(fin|opBinary, blob), down(fin|opBinary, blob)))
	}
	cases = append(cases, exchanged("a binary message of 16 MiB", up(fin|opBinary, noise(16<<20)), down(fin|opBinary, noise(16<<20))))

	pieces := func(say func(byte, string) []byte, first byte, payloads ...string) []byte {
		var b []byte
		for i, payload := range payloads {
			head := byte(opContinuation)
			if i == 0 {
				head = first
			}
			if i == len(payloads)-1 {
				head |= fin
			}
			b = append(b, say(head, payload)...)
		}
		return b
	}
	thousand := strings.Split(letters(1000), "")
	cut := []string{"\xf0\x9f", "\x94", "\x92 in pieces"} // a padlock
	empty := []string{"", "a", "", "", "b", ""}
	hundred := [2][]byte{}
	for i := range 100 {
		text := fmt.Sprint("message ", i)
		hundred[0], hundred[1] = append(hundred[0], up(fin|opText, text)...), append(hundred[1], down(fin|opText, text)...)
	}
	full := strings.Repeat("p", 125)
	return append(cases,
		exchanged("a message in a thousand fragments of a byte", pieces(up, opText, thousand...), pieces(down, opText, thousand...)),
		exchanged("a text whose fragments cut a letter", pieces(up, opText, cut...), pieces(down, opText, cut...)),
		exchanged("a message of which most fragments are empty", pieces(up, opBinary, empty...), pieces(down, opBinary, empty...)),
		exchanged("control frames between the fragments of a message",
			bytes.Join([][]byte{up(opText, "one, "), up(fin|opPing, "?"), up(opContinuation, "two, "), up(fin|opPong, ""), up(fin|opContinuation, "three")}, nil),
			bytes.Join([][]byte{down(fin|opPong, "?"), down(opText, "one, "), down(fin|opPing, ""), down(fin|opContinuation, "two")}, nil)),
		exchanged("a hundred messages in one write", hundred[0], hundred[1]),
		exchanged("a Ping with nothing in it, and its Pong", up(fin|opPing, ""), down(fin|opPong, "")),
		exchanged("a Ping of 125 bytes, and its Pong", up(fin|opPing, full), down(fin|opPong, full)),
		exchanged("Pongs that nobody has asked for", up(fin|opPong, "unasked"), down(fin|opPong, "unasked")),
		exchanged("a masking key of zeros", wsFrame{fin | opText, make([]byte, 4), []byte("plain to see")}.bytes(), down(fin|opText, "seen")),
		wsCase{
			name:   "a Ping by the target, and the client's Pong",
			target: func(p *wsPeer) { p.accept(); p.say(down(fin|opPing, full)); p.hear(up(fin|opPong, full)); p.end() },
			client: func(v *wsClient) {
				v.hear(down(fin|opPing, full))
				v.say(up(fin|opPong, full))
				must(v.t, v.end())
				v.properly()
			},
		},
		wsCase{
			name: "a message byte by byte",
			target: func(p *wsPeer) {
				p.accept()
				p.hear(up(fin|opText, "byte by byte"))
				for _, b := range down(fin|opText, "one by one") {
					p.say([]byte{b})
				}
				p.end()
			},
			client: func(v *wsClient) {
				for _, b := range up(fin|opText, "byte by byte") {
					v.say([]byte{b})
				}
				v.hear(down(fin|opText, "one by one"))
				must(v.t, v.end())
				v.properly()
			},
		},
	)
}

// verdicts are cases in which one side breaks RFC 6455. padlock carries the bytes; to judge them is the other side's.
func verdicts() []wsCase {
	mib := up(fin|opBinary, noise(1<<20))
	broken := func(name, path string, code uint16, said []byte) wsCase {
		return wsCase{name: name, request: wsRequest{path: path}, client: func(v *wsClient) {
			go func() { _, _ = v.Write(said) }() // the target may judge before it has got everything
			f, err := readFrame(v)
			for err == nil && f.first&15 != opClose {
				f, err = readFrame(v)
			}
			if err != nil || !strings.HasPrefix(string(f.payload), status(code, "")) {
				v.t.Errorf("the verdict is %x %q, %v", f.first, f.payload, err)
			}
		}}
	}
	const echo = "/library/echo"
	long := func(payload string) []byte { // in two bytes of length, where one would do
		return append([]byte{fin | opText, 0x80 | 126, 0, byte(len(payload)), 0, 0, 0, 0}, payload...)
	}
	invalid := up(fin|opText, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80")
	huge := []byte{fin | opBinary, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}
	closing := func(code uint16) []byte { return down(fin|opClose, status(code, "")) }
	return []wsCase{
		{name: "a library's end for a frame without a mask", request: wsRequest{path: echo}, client: func(v *wsClient) { v.say(down(fin|opText, "bare")); v.ended() }},
		exchanged("a target's 1002 for a frame without a mask", down(fin|opText, "bare"), closing(1002)),
		broken("a library's 1002 for a reserved bit", echo, 1002, up(fin|rsv2|opText, "x")),
		broken("a library's 1002 for another reserved bit", echo, 1002, up(fin|rsv3|opText, "x")),
		broken("a library's 1002 for RSV1 without an extension", echo, 1002, up(fin|rsv1|opText, "x")),
		broken("a library's 1002 for a reserved opcode", echo, 1002, up(fin|3, "x")),
		broken("a library's 1002 for a reserved control opcode", echo, 1002, up(fin|11, "x")),
		broken("a library's 1002 for a Ping in fragments", echo, 1002, up(opPing, "x")),
		broken("a library's 1002 for a Ping of 126 bytes", echo, 1002, up(fin|opPing, letters(126))),
		broken("a library's 1002 for a continuation of nothing", echo, 1002, up(fin|opContinuation, "x")),
		broken("a library's 1002 for a message inside a message", echo, 1002, append(up(opText, "x"), up(fin|opText, "y")...)),
		broken("a library's 1002 for a Close of one byte", echo, 1002, up(fin|opClose, "x")),
		broken("a library's 1002 for a Close with a status that is for nobody to send", echo, 1002, up(fin|opClose, status(1005, ""))),
		broken("a library's 1009 for a message that is too big", "/library/small", 1009, mib),
		exchanged("a target's 1007 for a text that is not UTF-8", invalid, closing(1007)),
		exchanged("a length in more bytes than it needs", long("long"), down(fin|opText, "ok")),
		exchanged("a target's 1009 for a length with its highest bit set", huge, closing(1009)),
		exchanged("a target's frame with a mask", up(fin|opText, "x"), up(fin|opText, "masked")),
		exchanged("a target's reserved bits and opcodes", up(fin|opText, "x"), append(down(fin|rsv1|rsv2|rsv3|7, "x"), down(fin|15, "y")...)),
		exchanged("a target's text that is not UTF-8", up(fin|opText, "x"), down(fin|opText, "\xff\xfe\x00")),
	}
}

// wsLibrary is a library on both sides, by HTTP/1.1, which is all that it speaks.
var wsLibrary = map[string]func(*testing.T, wsFront){
	"two libraries and messages of every size": func(t *testing.T, f wsFront) {
		conn, ctx := f.dial(t, nil)
		for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20, 16 << 20} {
			for kind, sent := range map[websocket.MessageType]string{websocket.MessageText: letters(size), websocket.MessageBinary: noise(size)} {
				echo(t, ctx, conn, kind, sent)
			}
		}
		must(t, conn.Close(websocket.StatusNormalClosure, "enough"))
	},
	"two libraries that compress with a context": func(t *testing.T, f wsFront) {
		conn, ctx := f.dial(t, &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1})
		for range 20 {
			echo(t, ctx, conn, websocket.MessageText, strings.Repeat(letters(1000), 50))
		}
		must(t, conn.Close(websocket.StatusNormalClosure, ""))
	},
	"two libraries that compress each message by itself": func(t *testing.T, f wsFront) {
		conn, ctx := f.dial(t, &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1})
		for range 20 {
			echo(t, ctx, conn, websocket.MessageText, strings.Repeat(letters(1000), 50))
		}
		must(t, conn.Close(websocket.StatusNormalClosure, ""))
	},
	"two libraries that agree upon a subprotocol": func(t *testing.T, f wsFront) {
		conn, _ := f.dial(t, &websocket.DialOptions{Subprotocols: []string{"unknown", "superchat"}})
		if got := conn.Subprotocol(); got != "superchat" {
			t.Errorf("they agreed upon %q", got)
		}
		must(t, conn.Close(websocket.StatusNormalClosure, ""))
	},
	"two libraries and their Pings": func(t *testing.T, f wsFront) {
		conn, ctx := f.dial(t, nil)
		conn.CloseRead(ctx)
		for range 10 {
			must(t, conn.Ping(ctx))
		}
	},
	"two libraries, and a Close with a status of their own": func(t *testing.T, f wsFront) {
		conn, ctx := f.dial(t, nil)
		must(t, conn.Close(4999, strings.Repeat("r", 120)))
		var ended websocket.CloseError
		if _, _, err := conn.Read(ctx); !errors.As(err, &ended) && err == nil {
			t.Errorf("the end is %v", err)
		}
	},
}

func (f wsFront) dial(t *testing.T, o *websocket.DialOptions) (*websocket.Conn, context.Context) {
	t.Helper()
	if o == nil {
		o = &websocket.DialOptions{}
	}
	transport := &http.Transport{TLSClientConfig: f.tls("http/1.1")}
	t.Cleanup(transport.CloseIdleConnections)
	o.HTTPClient = &http.Client{Transport: transport}
	ctx, cancel := context.WithTimeout(context.Background(), wsPatience)
	t.Cleanup(cancel)
	conn, response, err := websocket.Dial(ctx, "https://"+f.address+"/library/echo", o)
	if err != nil {
		t.Fatal(err)
	}
	if o.CompressionMode != websocket.CompressionDisabled && !strings.HasPrefix(response.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		t.Errorf("no compression: %v", response.Header)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(20 << 20)
	return conn, ctx
}

func echo(t *testing.T, ctx context.Context, conn *websocket.Conn, kind websocket.MessageType, sent string) {
	t.Helper()
	began := time.Now()
	must(t, conn.Write(ctx, kind, []byte(sent)))
	if got, back, err := conn.Read(ctx); err != nil || got != kind || string(back) != sent {
		t.Fatalf("%d bytes of %d came back after %s: %v", len(back), len(sent), time.Since(began), err)
	}
}
