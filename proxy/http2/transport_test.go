package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"padlock/proxy/message"
)

// peer is one connection of a target that can misbehave.
type peer struct {
	*http2.Framer
	net.Conn
	nth   int // connection, from 1 on
	block bytes.Buffer
	coder *hpack.Encoder
}

// head sends a block of "name: value" lines.
func (p *peer) head(id uint32, end bool, lines ...string) {
	p.block.Reset()
	for _, line := range lines {
		colon := strings.Index(line[1:], ":") + 1
		_ = p.coder.WriteField(hpack.HeaderField{Name: line[:colon], Value: strings.TrimPrefix(line[colon+1:], " ")})
	}
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block.Bytes(), EndStream: end, EndHeaders: true})
}

// next is the next frame that is not about settings or windows; nil: the connection has ended.
func (p *peer) next() http2.Frame {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = p.WriteSettingsAck()
			}
		case *http2.WindowUpdateFrame:
		default:
			return f
		}
	}
}

// request is the next request's stream; 0: the connection has ended.
func (p *peer) request() (id uint32, path string) {
	for {
		switch f := p.next().(type) {
		case nil:
			return 0, ""
		case *http2.MetaHeadersFrame:
			return f.StreamID, f.PseudoValue("path")
		}
	}
}

// target serves connections with do, behind the prefaces, and gives a transport to it.
func target(t *testing.T, settings []http2.Setting, do func(p *peer)) *Transport {
	return targetWith(t, TransportOptions{}, settings, do)
}

func targetWith(t *testing.T, o TransportOptions, settings []http2.Setting, do func(p *peer)) *Transport {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	var mu sync.Mutex
	var all []net.Conn
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for nth := 1; ; nth++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, conn)
			mu.Unlock()
			open.Go(func() {
				defer conn.Close()
				if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				p := &peer{Framer: http2.NewFramer(conn, conn), Conn: conn, nth: nth}
				p.coder = hpack.NewEncoder(&p.block)
				p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				p.AllowIllegalWrites = true
				_ = p.WriteSettings(settings...)
				do(p)
			})
		}
	}()
	o.Address, o.Connect = l.Addr().String(), 10*time.Second
	if o.ResponseHeader == 0 {
		o.ResponseHeader = 20 * time.Second
	}
	tr := NewTransport(o)
	t.Cleanup(func() {
		l.Close()
		<-accepting
		mu.Lock()
		for _, c := range all {
			c.Close()
		}
		mu.Unlock()
		open.Wait()
		tr.Close()
	})
	return tr
}

// content is a request's: pieces that come one after the other.
type content struct {
	pieces   chan string // closed at its end
	now      string      // what is at hand
	trailers message.Fields
	fault    error
	received atomic.Int64
	reading  atomic.Int32 // calls of Read
	closed   chan struct{}
	once     sync.Once
}

func whole(text string) *content {
	c := &content{pieces: make(chan string), now: text, closed: make(chan struct{})}
	close(c.pieces)
	return c
}

func pieces() *content { return &content{pieces: make(chan string, 100), closed: make(chan struct{})} }

func (c *content) Read(p []byte) (int, error) {
	c.reading.Add(1)
	defer c.reading.Add(-1)
	if c.now == "" {
		select {
		case piece, ok := <-c.pieces:
			if !ok {
				if c.fault != nil {
					return 0, c.fault
				}
				return 0, io.EOF
			}
			c.now = piece
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, c.now)
	c.now = c.now[n:]
	c.received.Add(int64(n))
	return n, nil
}

func (c *content) Close() error             { c.once.Do(func() { close(c.closed) }); return nil }
func (c *content) Trailers() message.Fields { return c.trailers }
func (c *content) Buffered() int            { return len(c.now) }
func (c *content) Received() int64          { return c.received.Load() }

type interims []string

func (i *interims) Interim(status int, fields message.Fields) error {
	*i = append(*i, fmt.Sprint(status, fields))
	return nil
}

func getting(path string) *message.Request {
	return &message.Request{Method: "GET", Host: "localhost", Target: path}
}

func posting(path string, body message.Body, length int64) *message.Request {
	return &message.Request{Method: "POST", Host: "localhost", Target: path, Body: body, ContentLength: length}
}

// ask sends a request and reads its answer: "status content trailers", or the error.
func ask(tr *Transport, r *message.Request) string {
	var ctx message.Context
	response, err := tr.RoundTrip(&ctx, r, &interims{})
	if err != nil {
		return err.Error()
	}
	return read(response)
}

func read(response *message.Response) string {
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Sprint(response.Status, " ", string(text), " ", err)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %v", response.Status, text, response.Body.Trailers()))
}

func connections(tr *Transport) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.backends)
}

// Requests share a connection until it is full, as the target has said; those that are one too many get another.
func TestRequestsShareConnections(t *testing.T) {
	var most atomic.Int32
	all := make(chan struct{})
	var came atomic.Int32
	tr := target(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 2}}, func(p *peer) {
		most.Store(max(most.Load(), int32(p.nth)))
		var ids []uint32
		for {
			id, path := p.request()
			if id == 0 {
				return
			}
			if path == "/now" {
				p.head(id, true, ":status: 200")
				continue
			}
			if ids = append(ids, id); len(ids) > 2 {
				t.Error("a connection has too many streams")
			}
			if came.Add(1) == 6 {
				close(all)
			}
			go func() {
				<-all
				_, _ = p.Write(appendHeaders(nil, id, []byte{0x88}, true))
			}()
		}
	})
	if got := ask(tr, getting("/now")); got != "200  []" { // its limit is known from here on
		t.Fatal(got)
	}
	var asking sync.WaitGroup
	for range 6 {
		asking.Go(func() {
			if got := ask(tr, getting("/held")); got != "200  []" {
				t.Error(got)
			}
		})
	}
	asking.Wait()
	for range 6 {
		ask(tr, getting("/now"))
	}
	if n := most.Load(); n != 3 {
		t.Errorf("there were %d connections", n)
	}
}

// What the target has surely not acted on goes out again, with content that was at hand; what it may have acted on does
// not.
func TestWhatWasNotProcessedIsSentAgain(t *testing.T) {
	answer := func(p *peer, id uint32) {
		p.head(id, false, ":status: 200")
		_ = p.WriteData(id, true, []byte(fmt.Sprint("by ", p.nth)))
	}
	for name, c := range map[string]struct {
		do   func(p *peer, id uint32, n int) // n is how many streams the connection has had before
		post bool
		want string
	}{
		"refused": {func(p *peer, id uint32, n int) {
			if n == 1 {
				_ = p.WriteRSTStream(id, http2.ErrCodeRefusedStream)
				return
			}
			answer(p, id)
		}, true, "200 by 1 []"},
		"refused for ever": {func(p *peer, id uint32, n int) {
			if n == 0 {
				answer(p, id)
				return
			}
			_ = p.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		}, true, "the request was not processed: stream error"},
		"GOAWAY before it": {func(p *peer, id uint32, n int) {
			if p.nth == 1 && n == 1 {
				_ = p.WriteGoAway(id-2, http2.ErrCodeNo, nil)
				return
			}
			answer(p, id)
		}, true, "200 by 2 []"},
		"GOAWAY behind it": {func(p *peer, id uint32, n int) {
			if n == 1 {
				_ = p.WriteGoAway(id, http2.ErrCodeNo, nil)
			}
			answer(p, id)
		}, true, "200 by 1 []"},
		"dies with a POST": {func(p *peer, id uint32, n int) {
			if n == 1 {
				p.Close()
				return
			}
			answer(p, id)
		}, true, "the connection ended: "},
		"dies with a GET": {func(p *peer, id uint32, n int) {
			if n == 1 {
				p.Close()
				return
			}
			answer(p, id)
		}, false, "200 by 2 []"},
		"dies behind a head": {func(p *peer, id uint32, n int) {
			if n == 1 {
				p.head(id, false, ":status: 103")
				p.Close()
				return
			}
			answer(p, id)
		}, false, "the connection ended: "},
		"is reset": {func(p *peer, id uint32, n int) {
			if n == 1 {
				_ = p.WriteRSTStream(id, http2.ErrCodeInternal)
				return
			}
			answer(p, id)
		}, false, "stream error: stream ID 3; INTERNAL_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := target(t, nil, func(p *peer) {
				for n := 0; ; n++ {
					id, _ := p.request()
					if id == 0 {
						return
					}
					c.do(p, id, n)
				}
			})
			if got := ask(tr, getting("/")); got != "200 by 1 []" {
				t.Fatal(got)
			}
			r := getting("/")
			if c.post {
				r = posting("/", whole("hello"), 5)
			}
			got := ask(tr, r)
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q", got)
			}
			if failed := got[0] != '2'; r.Spent != (failed && c.post) {
				t.Errorf("spent: %v", r.Spent)
			}
		})
	}
}

// Content that nobody has begun to read when its connection ends goes out on another.
func TestContentThatWasNotReadIsSentAgain(t *testing.T) {
	tr := target(t, nil, func(p *peer) {
		for {
			f, ok := p.next().(*http2.MetaHeadersFrame)
			switch {
			case !ok:
				return
			case p.nth == 1:
				_ = p.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
				_ = p.WriteGoAway(0, http2.ErrCodeNo, nil)
			default:
				p.head(f.StreamID, false, ":status: 100")
				var got []byte
				for ended := false; !ended; {
					data, ok := p.next().(*http2.DataFrame)
					if !ok {
						t.Error("there is no content")
						return
					}
					got, ended = append(got, data.Data()...), data.StreamEnded()
				}
				p.head(f.StreamID, false, ":status: 200")
				_ = p.WriteData(f.StreamID, true, got)
			}
		}
	})
	for range 20 {
		r := posting("/", whole("content"), 7)
		r.Expect = true
		if got := ask(tr, r); got != "200 content []" {
			t.Errorf("got %q", got)
		}
	}
}

// Whatever a target does, a request ends, and what is not proper is told apart from what has ended.
func TestHostileTargets(t *testing.T) {
	many := func(write func(p *peer, n int) error) func(p *peer, id uint32) {
		return func(p *peer, _ uint32) {
			go func() { _, _ = io.Copy(io.Discard, p.Conn) }()
			for n := 0; ; n++ {
				if write(p, n) != nil {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct {
		do   func(p *peer, id uint32)
		want string
	}{
		"PING":         {many(func(p *peer, _ int) error { return p.WritePing(false, [8]byte{}) }), "goes too far"},
		"PING answers": {many(func(p *peer, _ int) error { return p.WritePing(true, [8]byte{}) }), "goes too far"},
		"SETTINGS":     {many(func(p *peer, _ int) error { return p.WriteSettings() }), "goes too far"},
		"empty DATA": {func(p *peer, id uint32) {
			p.head(id, false, ":status: 200")
			many(func(p *peer, _ int) error { return p.WriteData(id, false, nil) })(p, id)
		}, "goes too far"},
		"unknown frames":  {many(func(p *peer, _ int) error { return p.WriteRawFrame(0xbb, 0, 0, nil) }), "goes too far"},
		"PRIORITY":        {many(func(p *peer, _ int) error { return p.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }), "goes too far"},
		"updates by byte": {many(func(p *peer, _ int) error { return p.WriteWindowUpdate(0, 1) }), "goes too far"},
		"GOAWAY":          {many(func(p *peer, _ int) error { return p.WriteGoAway(1, 0, nil) }), "goes too far"},
		"CONTINUATION": {func(p *peer, id uint32) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}})
			many(func(p *peer, _ int) error { return p.WriteContinuation(id, false, nil) })(p, id)
		}, "goes too far"},
		"a large head": {func(p *peer, id uint32) {
			p.head(id, true, ":status: 200", "x: "+strings.Repeat("x", 16000))
			for range 20 {
				p.head(id+2, true, ":status: 200", "x: "+strings.Repeat("x", 16000))
			}
		}, "200"},
		"a head that is too large": {func(p *peer, id uint32) {
			lines := []string{":status: 200"}
			for n := range 1100 {
				lines = append(lines, fmt.Sprint("x: ", n))
			}
			p.head(id, true, lines...)
		}, "its head is too large"},
		"interim responses": {func(p *peer, id uint32) {
			for range 100 {
				p.head(id, false, ":status: 103")
			}
		}, "too many interim"},
		"no head":             {func(p *peer, id uint32) { _ = p.WriteData(id, true, []byte("x")) }, "before its head"},
		"an idle stream":      {func(p *peer, id uint32) { _ = p.WriteData(id+2, true, []byte("x")) }, "PROTOCOL_ERROR"},
		"a stream of its own": {func(p *peer, id uint32) { p.head(2, true, ":status: 200") }, "PROTOCOL_ERROR"},
		"a push": {func(p *peer, id uint32) {
			_ = p.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: []byte{0x88}, EndHeaders: true})
		}, "PROTOCOL_ERROR"},
		"nonsense in a head": {func(p *peer, id uint32) {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true})
		}, "COMPRESSION_ERROR"},
		"a window that overflows": {func(p *peer, id uint32) { _ = p.WriteWindowUpdate(0, 1<<31-1) }, "FLOW_CONTROL_ERROR"},
		"a stream's overflows":    {func(p *peer, id uint32) { _ = p.WriteWindowUpdate(id, 1<<31-1) }, "too large"},
		"a second head":           {func(p *peer, id uint32) { p.head(id, false, ":status: 200"); p.head(id, false, ":status: 200") }, "a second head"},
		"a huge frame":            {func(p *peer, id uint32) { _ = p.WriteRawFrame(http2.FrameData, 0, id, make([]byte, 1<<20)) }, "frame too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := target(t, nil, func(p *peer) {
				if id, _ := p.request(); id != 0 {
					c.do(p, id)
					_, _ = io.Copy(io.Discard, p.Conn)
				}
			})
			var ctx message.Context
			response, err := tr.RoundTrip(&ctx, posting("/", whole("hello"), 5), &interims{})
			if err == nil {
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if c.want == "200" {
					return
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrMalformed) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Streams of a connection hold a bounded amount that their clients do not read, also where all of them have read fast
// before.
func TestFastReadersThatStopHoldABoundedAmount(t *testing.T) {
	const streams, fast = 24, 4 << 20
	given := make(chan int, 1)
	tr := target(t, nil, func(p *peer) {
		windows, left, total, over := map[uint32]int{}, map[uint32]int{}, 0, 0
		send := func(id uint32) {
			for windows[id] > 0 && left[id] > 0 {
				n := min(windows[id], left[id], maxFrame)
				_ = p.WriteData(id, false, make([]byte, n))
				windows[id], left[id], total = windows[id]-n, left[id]-n, total+n
			}
		}
		for {
			f, err := p.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				p.head(f.StreamID, false, ":status: 200")
				windows[f.StreamID], left[f.StreamID] = unread, fast
				send(f.StreamID)
			case *http2.WindowUpdateFrame:
				if f.StreamID > 0 {
					windows[f.StreamID] += int(f.Increment)
					send(f.StreamID)
				}
			case *http2.PingFrame:
				// All have read what came, so what the windows have room for is what they may leave.
				for id := range windows {
					over += windows[id]
				}
				given <- over
			}
		}
	})
	var reading sync.WaitGroup
	for range streams {
		response, err := tr.RoundTrip(new(message.Context), getting("/"), &interims{})
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		reading.Go(func() {
			if n, err := io.CopyN(io.Discard, response.Body, fast); n != fast {
				t.Error(n, err)
			}
		})
	}
	reading.Wait()
	b := tr.backends[0]
	b.mu.Lock()
	b.doubt(time.Now())
	b.mu.Unlock()
	if n := <-given; n > streams*unread+mostGrown || n < streams*unread/2+mostGrown/2 {
		t.Errorf("%d bytes may come that nobody reads", n)
	}
}

// Heads do not pile up for a target that reads nothing, and a client that waits for it can leave.
func TestHeadsWaitForATargetThatReads(t *testing.T) {
	reads := make(chan struct{})
	tr := target(t, nil, func(p *peer) {
		<-reads
		for {
			id, _ := p.request()
			if id == 0 {
				return
			}
			p.head(id, true, ":status: 204")
		}
	})
	var asking sync.WaitGroup
	var contexts [300]message.Context
	for n := range contexts {
		asking.Go(func() {
			r := getting("/")
			r.Fields.Add("X-Large", strings.Repeat("x", 60_000))
			response, err := tr.RoundTrip(&contexts[n], r, &interims{})
			if err == nil {
				response.Body.Close()
			} else if !errors.Is(err, contexts[n].Err()) {
				t.Error(err)
			}
		})
	}
	for most, tries := 0, 0; tries < 20; tries++ {
		tr.mu.Lock()
		for _, b := range tr.backends {
			b.mu.Lock()
			most = max(most, len(b.out))
			b.mu.Unlock()
		}
		tr.mu.Unlock()
		if most > outBuffer/2+70_000 {
			t.Fatalf("%d bytes wait to be written", most)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for n := range 100 {
		contexts[n].Cancel()
	}
	close(reads)
	asking.Wait()
}

// A target may not send more than a stream's window, which is not given back before it is read.
func TestATargetKeepsToItsWindow(t *testing.T) {
	tr := target(t, nil, func(p *peer) {
		id, _ := p.request()
		p.head(id, false, ":status: 200")
		for range unread/(1<<10) + 1 {
			_ = p.WriteData(id, false, make([]byte, 1<<10))
		}
		for f := p.next(); f != nil; f = p.next() {
			if reset, ok := f.(*http2.RSTStreamFrame); ok && reset.ErrCode == http2.ErrCodeFlowControl {
				p.head(id, true, "late: 1")
				return
			}
		}
	})
	var ctx message.Context
	response, err := tr.RoundTrip(&ctx, getting("/"), &interims{})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	x, _ := response.Body.(*exchange)
	x.b.mu.Lock()
	for x.err == nil {
		x.changed.Wait()
	}
	x.b.mu.Unlock()
	if n, err := io.Copy(io.Discard, response.Body); n != unread || !errors.Is(err, ErrMalformed) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// Content goes out as the target's windows allow, also where they shrink below nothing; one that takes none is given up.
func TestContentIsSentAsTheWindowsAllow(t *testing.T) {
	tr := targetWith(t, TransportOptions{ResponseHeader: time.Second}, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 10}}, func(p *peer) {
		id, path := p.request()
		got := 0
		for {
			f, err := p.ReadFrame()
			if err != nil {
				return
			}
			data, ok := f.(*http2.DataFrame)
			if !ok {
				continue
			}
			got += len(data.Data())
			switch {
			case data.StreamEnded():
				p.head(id, true, ":status: 200", fmt.Sprint("x-got: ", got))
			case path == "/never":
			case got == 10:
				_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
				_ = p.WriteWindowUpdate(id, 11) // one more than nothing
			default:
				_ = p.WriteWindowUpdate(id, 70_000)
				_ = p.WriteWindowUpdate(0, uint32(len(data.Data()))+70_000)
			}
		}
	})
	var ctx message.Context
	for _, body := range []*content{whole(strings.Repeat("x", 300_000)), pieces()} {
		if body.now == "" {
			for range 30 {
				body.pieces <- strings.Repeat("x", 10_000)
			}
			close(body.pieces)
		}
		response, err := tr.RoundTrip(&ctx, posting("/", body, -1), &interims{})
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := response.Fields.Value("x-got"); got != "300000" {
			t.Errorf("the target got %s bytes", got)
		}
		tr.mu.Lock()
		tr.backends[0].retire()
		tr.mu.Unlock()
	}
	if _, err := tr.RoundTrip(&ctx, posting("/never", whole(strings.Repeat("x", 100_000)), -1), &interims{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// A response that is read as fast as it comes gets a larger window, and trailers come behind it.
func TestTheWindowOfAFastReaderGrows(t *testing.T) {
	const size = 8 << 20
	grown := make(chan int, 1)
	tr := target(t, nil, func(p *peer) {
		id, _ := p.request()
		p.head(id, false, ":status: 200", "trailer: x-sum")
		window, most := unread, 0
		for left := size; left > 0; {
			for window > 0 && left > 0 {
				n := min(window, left, maxFrame)
				_ = p.WriteData(id, false, make([]byte, n))
				window, left = window-n, left-n
			}
			for left > 0 && window < unread {
				f, err := p.ReadFrame()
				if err != nil {
					return
				}
				if update, ok := f.(*http2.WindowUpdateFrame); ok && update.StreamID == id {
					window += int(update.Increment)
					most = max(most, int(update.Increment))
				}
			}
		}
		p.head(id, true, "x-sum: 8", "content-length: 3")
		grown <- most
		p.next()
	})
	var ctx message.Context
	response, err := tr.RoundTrip(&ctx, getting("/"), &interims{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, response.Body)
	if trailers := response.Body.Trailers(); n != size || err != nil || len(trailers) != 1 || trailers.Value("X-Sum") != "8" || !response.Trailing {
		t.Errorf("%d bytes, %v, %v", n, err, trailers)
	}
	response.Body.Close()
	if most := <-grown; most < mostUnread/4 || most > mostUnread {
		t.Errorf("at once %d bytes were given back", most)
	}
}

// An answer that comes before the end of the content ends the exchange, whether or not the target says that it wants no
// more; the connection stays.
func TestEarlyAnswers(t *testing.T) {
	tr := target(t, nil, func(p *peer) {
		for {
			id, path := p.request()
			switch path {
			case "":
				return
			case "/no-error":
				p.head(id, false, ":status: 413")
				_ = p.WriteData(id, true, []byte("early"))
				_ = p.WriteRSTStream(id, http2.ErrCodeNo)
			case "/whole":
				p.head(id, false, ":status: 413")
				_ = p.WriteData(id, true, []byte("early"))
				if reset, ok := p.next().(*http2.RSTStreamFrame); !ok || reset.ErrCode != http2.ErrCodeCancel {
					t.Error("the end of the content was not told")
				}
			}
		}
	})
	for _, path := range []string{"/no-error", "/whole", "/no-error"} {
		body := pieces()
		if got := ask(tr, posting(path, body, -1)); got != "413 early []" {
			t.Errorf("%s: %s", path, got)
		}
		if body.reading.Load() > 0 { // it need not be closed: the answer may come before anybody has begun to read it
			t.Errorf("%s: the content is still waited for", path)
		}
	}
	if n := connections(tr); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A client that goes has its request cancelled, wherever that is, and no others.
func TestCancelledRequestsAreReset(t *testing.T) {
	resets := make(chan http2.ErrCode, 10)
	begun := make(chan struct{}, 10)
	tr := target(t, nil, func(p *peer) {
		for {
			switch f := p.next().(type) {
			case nil:
				return
			case *http2.MetaHeadersFrame:
				if f.PseudoValue("path") == "/begun" {
					p.head(f.StreamID, false, ":status: 200")
					_ = p.WriteData(f.StreamID, false, []byte("x"))
				}
				begun <- struct{}{}
			case *http2.RSTStreamFrame:
				resets <- f.ErrCode
			}
		}
	})
	for _, r := range []*message.Request{getting("/silent"), posting("/silent", pieces(), -1)} {
		var ctx message.Context
		ended := make(chan error, 1)
		go func() {
			_, err := tr.RoundTrip(&ctx, r, &interims{})
			ended <- err
		}()
		<-begun
		ctx.Cancel()
		if err := <-ended; !errors.Is(err, ctx.Err()) {
			t.Error(err)
		}
		if code := <-resets; code != http2.ErrCodeCancel {
			t.Error(code)
		}
	}
	var ctx message.Context
	response, err := tr.RoundTrip(&ctx, getting("/begun"), &interims{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	time.AfterFunc(10*time.Millisecond, ctx.Cancel)
	if _, err := io.Copy(io.Discard, response.Body); !errors.Is(err, ctx.Err()) {
		t.Error(err)
	}
	response.Body.Close()
	if code := <-resets; code != http2.ErrCodeCancel {
		t.Error(code)
	}
	response, err = tr.RoundTrip(new(message.Context), getting("/begun"), &interims{})
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if code := <-resets; code != http2.ErrCodeCancel || connections(tr) != 1 {
		t.Error(code, connections(tr))
	}
}

// With Expect, content waits for a 100, for a second; a target that refuses gets none.
func TestContentWaitsForTheTarget(t *testing.T) {
	tr := target(t, nil, func(p *peer) {
		for {
			id, path := p.request()
			switch path {
			case "":
				return
			case "/refused":
				p.head(id, true, ":status: 417")
				_ = p.WriteRSTStream(id, http2.ErrCodeNo)
				continue
			case "/continue":
				p.head(id, false, ":status: 103", "link: <a>")
				p.head(id, false, ":status: 100")
			}
			for {
				data, ok := p.next().(*http2.DataFrame)
				if !ok {
					return
				}
				if data.StreamEnded() {
					p.head(id, true, ":status: 200")
					break
				}
			}
		}
	})
	for path, want := range map[string]string{"/refused": "417  []", "/continue": "200  []", "/silent": "200  []"} {
		body := whole("content")
		r := posting(path, body, 7)
		r.Expect = true
		if got := ask(tr, r); got != want || (path == "/refused") != (body.Received() == 0) {
			t.Errorf("%s: %s, with %d bytes", path, got, body.Received())
		}
	}
}

// A connection on which nothing is open ends in time, with GOAWAY, and at once where the transport is closed; a target
// that answers no PING has died.
func TestConnectionsEnd(t *testing.T) {
	said := make(chan string, 10)
	serve := func(p *peer) {
		for {
			switch f := p.next().(type) {
			case nil:
				said <- "end"
				return
			case *http2.MetaHeadersFrame:
				if f.PseudoValue("path") == "/" {
					p.head(f.StreamID, true, ":status: 204")
				}
			case *http2.GoAwayFrame:
				said <- fmt.Sprint("GOAWAY ", f.ErrCode)
			}
		}
	}
	for name, c := range map[string]struct {
		o   TransportOptions
		end func(tr *Transport)
	}{
		"idle":   {TransportOptions{Idle: 50 * time.Millisecond}, func(*Transport) {}},
		"closed": {TransportOptions{}, (*Transport).Close},
		"single": {TransportOptions{Single: true}, func(*Transport) {}},
	} {
		tr := targetWith(t, c.o, nil, serve)
		if got := ask(tr, getting("/")); got != "204  []" {
			t.Errorf("%s: %s", name, got)
		}
		c.end(tr)
		if got := <-said + ", " + <-said; got != "GOAWAY NO_ERROR, end" {
			t.Errorf("%s: %s", name, got)
		}
	}

	tr := target(t, nil, serve)
	tr.pingAfter, tr.pongWithin = 20*time.Millisecond, 50*time.Millisecond
	if got := ask(tr, posting("/silent", nil, 0)); !strings.Contains(got, errSilent.Error()) {
		t.Error(got)
	}
}

// Requests that are late say so, and the connection of a target that says nothing at all serves no others.
func TestLateAnswers(t *testing.T) {
	tr := targetWith(t, TransportOptions{ResponseHeader: 50 * time.Millisecond}, nil, func(p *peer) {
		for {
			id, path := p.request()
			if id == 0 {
				return
			}
			if p.nth == 2 || path == "/" {
				p.head(id, true, ":status: 204")
			}
		}
	})
	if got := ask(tr, getting("/")); got != "204  []" {
		t.Error(got)
	}
	if got := ask(tr, getting("/late")); got != errLate.Error() {
		t.Error(got)
	}
	if got := ask(tr, getting("/late")); got != "204  []" {
		t.Error(got)
	}
}

// A round trip on a connection that is there allocates what outlives it, and no more.
func TestARoundTripAllocatesLittle(t *testing.T) {
	s := serve(t, hello, nil)
	tr := NewTransport(TransportOptions{Address: s.address, Connect: 5 * time.Second, ResponseHeader: 5 * time.Second})
	defer tr.Close()
	var ctx message.Context
	request := &message.Request{Method: "GET", Target: "/a?b", Host: "localhost", Fields: message.Fields{{Name: "Accept", Value: "*/*"}, {Name: "User-Agent", Value: "test"}}}
	room := make([]byte, 1024)
	once := func() {
		response, err := tr.RoundTrip(&ctx, request, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := io.ReadFull(response.Body, room[:5]); string(room[:n]) != "hello" {
			t.Fatalf("%q", room[:n])
		}
		response.Body.Close()
	}
	once()
	// Half of them are the server's.
	if allocated := testing.AllocsPerRun(200, once); allocated > 24 {
		t.Errorf("%v allocations", allocated)
	}
}

// A WebSocket goes to a target over HTTP/2 where its SETTINGS say so, ends in each direction by itself, and limits its
// reads; elsewhere it is refused before anything is sent.
func TestWebSocketsToTargets(t *testing.T) {
	r := getting("/chat")
	r.Upgrade = "websocket"
	r.Fields = message.Fields{{Name: "Sec-WebSocket-Key", Value: "a2V5"}, {Name: "Sec-WebSocket-Version", Value: "13"}}

	none := target(t, nil, func(p *peer) {
		if id, _ := p.request(); id != 0 {
			t.Error("it was asked")
		}
	})
	if _, err := none.RoundTrip(new(message.Context), r, &interims{}); !errors.Is(err, ErrUpgrade) {
		t.Error(err)
	}

	tr := target(t, []http2.Setting{{ID: http2.SettingEnableConnectProtocol, Val: 1}}, func(p *peer) {
		head, ok := p.next().(*http2.MetaHeadersFrame)
		if !ok || head.PseudoValue("method") != "CONNECT" || head.PseudoValue("protocol") != "websocket" || len(head.RegularFields()) != 1 || head.StreamEnded() {
			t.Errorf("%v", head)
			return
		}
		p.head(head.StreamID, false, ":status: 200")
		for {
			data, ok := p.next().(*http2.DataFrame)
			if !ok {
				return
			}
			_ = p.WriteData(head.StreamID, data.StreamEnded(), data.Data())
		}
	})
	response, err := tr.RoundTrip(new(message.Context), r, &interims{})
	if err != nil {
		t.Fatal(err)
	}
	tunnel := response.Tunnel
	defer tunnel.Close()
	if response.Status != 101 || response.Fields.Value("Sec-WebSocket-Accept") != message.WebSocketAccept("a2V5") {
		t.Errorf("%+v", response)
	}
	room := make([]byte, 10)
	tunnel.Until(time.Now().Add(10 * time.Millisecond))
	if _, err := tunnel.Read(room); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	tunnel.Until(time.Time{})
	if _, err := tunnel.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	if n, err := tunnel.Read(room); string(room[:n]) != "hello" || err != nil {
		t.Errorf("%q, %v", room[:n], err)
	}
	if err := tunnel.CloseWrite(); err != nil {
		t.Error(err)
	}
	if n, err := tunnel.Read(room); n != 0 || !errors.Is(err, io.EOF) {
		t.Error(n, err)
	}
}
