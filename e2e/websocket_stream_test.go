//go:build e2e

package e2e

//lint:file-ignore SA1019 x/net's HTTP/2 is what go.mod pins.

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// streams is a client of HTTP/2 that says frames of its choice. One goroutine uses it.
type streams struct {
	t      *testing.T
	conn   *tls.Conn
	framer *http2.Framer
	block  bytes.Buffer
	coder  *hpack.Encoder

	settings map[http2.SettingID]uint32
	seen     map[uint32]*seen
}

// seen is what came on a stream.
type seen struct {
	status string
	data   bytes.Buffer
	ended  bool
	reset  bool
	code   http2.ErrCode
}

func (f wsFront) streams(t *testing.T, settings ...http2.Setting) *streams {
	t.Helper()
	conn, err := tls.Dial("tcp", f.address, f.tls("h2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(wsPatience))
	s := &streams{t: t, conn: conn, framer: http2.NewFramer(conn, conn), settings: map[http2.SettingID]uint32{}, seen: map[uint32]*seen{}}
	s.framer.AllowIllegalWrites = true
	s.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	s.coder = hpack.NewEncoder(&s.block)
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(t, err)
	must(t, s.framer.WriteSettings(settings...))
	return s
}

// ask begins a stream with pairs of names and values.
func (s *streams) ask(id uint32, end bool, pairs ...string) {
	s.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		must(s.t, s.coder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}))
	}
	must(s.t, s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.block.Bytes(), EndHeaders: true, EndStream: end}))
}

// socket asks for a WebSocket.
func (s *streams) socket(id uint32, path string) {
	s.ask(id, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "localhost", ":path", path, "sec-websocket-version", "13")
}

func (s *streams) stream(id uint32) *seen {
	if s.seen[id] == nil {
		s.seen[id] = &seen{}
	}
	return s.seen[id]
}

var errNotSeen = errors.New("it did not come")

// until reads frames, and answers those that want it, until something is so.
func (s *streams) until(what string, so func() bool) {
	s.t.Helper()
	for !so() {
		frame, err := s.framer.ReadFrame()
		if err != nil {
			s.t.Fatalf("%s: %v", what, fmt.Errorf("%w: %w", errNotSeen, err))
		}
		x := s.stream(frame.Header().StreamID)
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = f.ForeachSetting(func(v http2.Setting) error { s.settings[v.ID] = v.Val; return nil })
				must(s.t, s.framer.WriteSettingsAck())
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				must(s.t, s.framer.WritePing(true, f.Data))
			}
		case *http2.MetaHeadersFrame:
			x.status, x.ended = f.PseudoValue("status"), f.StreamEnded()
		case *http2.DataFrame:
			x.data.Write(f.Data())
			x.ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			x.reset, x.code = true, f.ErrCode
		}
	}
}

func (s *streams) opened(id uint32) {
	s.t.Helper()
	x := s.stream(id)
	s.until("the answer", func() bool { return x.status != "" || x.reset })
	if x.status != "200" {
		s.t.Fatalf("the answer is %+v", x)
	}
}

func (s *streams) hear(id uint32, want []byte) {
	s.t.Helper()
	x := s.stream(id)
	s.until(fmt.Sprintf("%.40x", want), func() bool { return x.data.Len() >= len(want) })
	hears(s.t, "the client", &x.data, want)
}

func (s *streams) say(id uint32, b []byte) { must(s.t, s.framer.WriteData(id, false, b)) }

// answering is a target that answers one frame with another.
func answering(p *wsPeer) {
	p.accept()
	p.hear(up(fin|opText, "x"))
	p.say(down(fin|opText, "y"))
	p.end()
}

// wsStreams are cases of HTTP/2 (RFC 8441).
var wsStreams = map[string]func(*testing.T, *wsSuite){
	"HTTP/2 announces that WebSockets may be asked for": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		c.until("SETTINGS", func() bool { return c.settings[http2.SettingEnableConnectProtocol] == 1 })
	},
	"a CONNECT to anywhere is refused": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		c.ask(1, false, ":method", "CONNECT", ":authority", "localhost:443")
		c.until("the answer", func() bool { return c.stream(1).status != "" })
		if got := c.stream(1); got.status != "405" {
			t.Errorf("%+v", got)
		}
	},
	"an extended CONNECT that is malformed is answered, and reset": func(t *testing.T, s *wsSuite) {
		const scheme, authority, path, protocol = ":scheme https", ":authority localhost", ":path /raw/malformed", ":protocol websocket"
		for what, pairs := range map[string][]string{
			"without a path": {":method CONNECT", protocol, scheme, authority}, "without a scheme": {":method CONNECT", protocol, authority, path},
			"without an authority": {":method CONNECT", protocol, scheme, path}, "by GET": {":method GET", protocol, scheme, authority, path},
			"with content": {":method CONNECT", protocol, scheme, authority, path, "content-length 5"}, "twice": {":method CONNECT", protocol, protocol, scheme, authority, path},
			"with Upgrade": {":method CONNECT", protocol, scheme, authority, path, "upgrade websocket"}, "with Connection": {":method CONNECT", protocol, scheme, authority, path, "connection upgrade"},
			"with no name": {":method CONNECT", ":protocol ", scheme, authority, path}, "with a name that is none": {":method CONNECT", ":protocol web socket", scheme, authority, path},
			"with another host": {":method CONNECT", protocol, scheme, authority, path, "host other.localhost"},
		} {
			c := s.fronts["h2"].streams(t)
			var fields []string
			for _, pair := range pairs {
				name, value, _ := strings.Cut(pair, " ")
				fields = append(fields, name, value)
			}
			c.ask(1, false, fields...)
			c.until(what, func() bool { return c.stream(1).reset })
			if got := c.stream(1); got.status != "400" || got.code != http2.ErrCodeProtocol {
				t.Errorf("%s: %+v", what, got)
			}
		}
	},
	"an extended CONNECT that has ended already is answered, and reset": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		c.ask(1, true, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "localhost", ":path", "/raw/ended")
		c.until("a reset", func() bool { return c.stream(1).reset })
		if got := c.stream(1); got.status != "400" {
			t.Errorf("%+v", got)
		}
	},
	"a key of the client's does not reach the target": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		script := s.target.expect(t, "/raw/key", func(p *wsPeer) {
			if keys := p.request.Header.Values("Sec-WebSocket-Key"); len(keys) != 1 || keys[0] == wsKey {
				p.t.Errorf("the keys are %q", keys)
			}
			answering(p)
		})
		c.ask(1, false, ":method", "CONNECT", ":protocol", "WebSocket", ":scheme", "https", ":authority", "localhost", ":path", "/raw/key", "sec-websocket-key", wsKey)
		c.opened(1)
		c.say(1, up(fin|opText, "x"))
		c.hear(1, down(fin|opText, "y"))
		must(t, c.framer.WriteData(1, true, nil))
		c.until("the end", func() bool { return c.stream(1).ended })
		script.wait()
	},
	"DATA of a byte, of nothing, and with padding": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		script := s.target.expect(t, "/raw/data", answering)
		c.socket(1, "/raw/data")
		c.opened(1)
		for _, b := range up(fin|opText, "x") {
			c.say(1, nil)
			must(t, c.framer.WriteDataPadded(1, false, []byte{b}, make([]byte, 200)))
		}
		c.hear(1, down(fin|opText, "y"))
		must(t, c.framer.WriteDataPadded(1, true, nil, make([]byte, 200)))
		c.until("the end", func() bool { return c.stream(1).ended })
		script.wait()
	},
	"a window of seven bytes": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 7})
		payload := letters(100)
		script := s.target.expect(t, "/raw/window", func(p *wsPeer) { p.accept(); p.say(down(fin|opText, payload)); p.end() })
		c.socket(1, "/raw/window")
		x := c.stream(1)
		for got := 0; got < len(payload)+2; {
			got = min(got+7, len(payload)+2)
			c.until("seven bytes more", func() bool { return x.data.Len() == got })
			must(t, c.framer.WriteWindowUpdate(1, 7))
		}
		hears(t, "the client", &x.data, down(fin|opText, payload))
		must(t, c.framer.WriteData(1, true, nil))
		c.until("the end", func() bool { return x.ended })
		script.wait()
	},
	"a reset of one WebSocket leaves the others of its connection": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		stays := s.target.expect(t, "/raw/stays", answering)
		goes := s.target.expect(t, "/raw/goes", func(p *wsPeer) { p.accept(); p.gone() })
		c.socket(1, "/raw/goes")
		c.opened(1)
		c.socket(3, "/raw/stays")
		c.opened(3)
		c.ask(5, true, ":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", "/fixed")
		c.until("a page beside them", func() bool { return c.stream(5).ended && c.stream(5).status == "200" })
		must(t, c.framer.WriteRSTStream(1, http2.ErrCodeCancel))
		goes.wait()
		c.say(3, up(fin|opText, "x"))
		c.hear(3, down(fin|opText, "y"))
		must(t, c.framer.WriteData(3, true, nil))
		c.until("the end", func() bool { return c.stream(3).ended })
		stays.wait()
	},
	"a target that is reset resets its stream alone": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		stays := s.target.expect(t, "/raw/survives", answering)
		dies := s.target.expect(t, "/raw/dies", func(p *wsPeer) { p.accept(); p.hear(up(fin|opText, "die")); must(p.t, p.SetLinger(0)) })
		c.socket(1, "/raw/dies")
		c.opened(1)
		c.socket(3, "/raw/survives")
		c.opened(3)
		c.say(1, up(fin|opText, "die"))
		c.until("the end of the first", func() bool { return c.stream(1).reset })
		dies.wait()
		c.say(3, up(fin|opText, "x"))
		c.hear(3, down(fin|opText, "y"))
		must(t, c.framer.WriteData(3, true, nil))
		c.until("the end", func() bool { return c.stream(3).ended })
		stays.wait()
	},
	"a client's GOAWAY leaves its WebSocket": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		script := s.target.expect(t, "/raw/goaway", answering)
		c.socket(1, "/raw/goaway")
		c.opened(1)
		must(t, c.framer.WriteGoAway(0, http2.ErrCodeNo, nil))
		c.say(1, up(fin|opText, "x"))
		c.hear(1, down(fin|opText, "y"))
		must(t, c.framer.WriteData(1, true, nil))
		c.until("the end", func() bool { return c.stream(1).ended })
		script.wait()
	},
	"a target that has said everything, and hears on over h2": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		script := s.target.expect(t, "/raw/half", func(p *wsPeer) {
			p.accept()
			must(p.t, p.CloseWrite())
			p.hear(up(fin|opText, "still heard"))
			p.end()
		})
		c.socket(1, "/raw/half")
		c.until("the target's end", func() bool { return c.stream(1).ended })
		c.say(1, up(fin|opText, "still heard"))
		must(t, c.framer.WriteData(1, true, nil))
		script.wait()
	},
	"trailers end what the client says": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		script := s.target.expect(t, "/raw/trailers", answering)
		c.socket(1, "/raw/trailers")
		c.opened(1)
		c.say(1, up(fin|opText, "x"))
		c.ask(1, true, "x-trailer", "ignored")
		c.hear(1, down(fin|opText, "y"))
		c.until("the end", func() bool { return c.stream(1).ended })
		script.wait()
	},
	"a connection that is cut ends all its WebSockets": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		var scripts []*wsScript
		for i := range 20 {
			path := fmt.Sprint("/raw/cut/", i)
			scripts = append(scripts, s.target.expect(t, path, func(p *wsPeer) { p.accept(); p.gone() }))
			c.socket(uint32(2*i+1), path)
			c.opened(uint32(2*i + 1))
		}
		c.conn.NetConn().Close()
		for _, script := range scripts {
			script.wait()
		}
	},
	"a hundred WebSockets on one connection": func(t *testing.T, s *wsSuite) {
		c := s.fronts["h2"].streams(t)
		var scripts []*wsScript
		for i := range 100 {
			path := fmt.Sprint("/raw/hundred/", i)
			scripts = append(scripts, s.target.expect(t, path, answering))
			c.socket(uint32(2*i+1), path)
		}
		for i := range uint32(100) {
			c.opened(2*i + 1)
			c.say(2*i+1, up(fin|opText, "x"))
		}
		for i := range uint32(100) {
			c.hear(2*i+1, down(fin|opText, "y"))
			must(t, c.framer.WriteData(2*i+1, true, nil))
		}
		for i := range uint32(100) {
			c.until("the end", func() bool { return c.stream(2*i + 1).ended })
		}
		for _, script := range scripts {
			script.wait()
		}
	},
	"one connection for each of a hundred WebSockets": func(t *testing.T, s *wsSuite) {
		var all []*streams
		var scripts []*wsScript
		for i := range 100 {
			path := fmt.Sprint("/raw/each/", i)
			scripts = append(scripts, s.target.expect(t, path, answering))
			all = append(all, s.fronts["h2"].streams(t))
			all[i].socket(1, path)
		}
		for _, c := range all {
			c.opened(1)
			c.say(1, up(fin|opText, "x"))
		}
		for _, c := range all {
			c.hear(1, down(fin|opText, "y"))
			must(t, c.framer.WriteData(1, true, nil))
			c.until("the end", func() bool { return c.stream(1).ended })
		}
		for _, script := range scripts {
			script.wait()
		}
	},
}
