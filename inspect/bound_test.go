package inspect_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"padlock/inspect"
)

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The room is what the records really take: those that have ended, those of streams that stay open, and those that were
// forgotten while they are under way, of which nothing is left.
func TestTheRoomHoldsWhateverComes(t *testing.T) {
	const room = 4 << 20
	field := func(i int) []inspect.Field {
		var all []inspect.Field
		for n := range 12 {
			all = append(all, inspect.Field{Name: fmt.Sprintf("X-Field-%d", n), Value: strings.Repeat("v", 20) + fmt.Sprint(i)})
		}
		return all
	}
	one := func(s *inspect.Store, i, body int) *inspect.Record {
		c := begin(s, &inspect.Limits{Site: fmt.Sprint(i % 100), Requests: 100_000, Body: 64 << 10}, "/", field(i)...)
		c.Trying("http://127.0.0.1:1", 0, "GET", "a", "/", inspect.LinesOf(field(i)))
		c.Answered(inspect.Try{Status: 200}, inspect.LinesOf(field(i)))
		c.Head(200, inspect.LinesOf(field(i)))
		c.Content(inspect.Server, make([]byte, body))
		return c
	}
	for name, run := range map[string]func(s *inspect.Store) (open []*inspect.Record){
		"small requests": func(s *inspect.Store) []*inspect.Record {
			for i := range 3000 {
				one(s, i, 100).End(inspect.Outcome{Status: 200})
			}
			return nil
		},
		"open streams": func(s *inspect.Store) (open []*inspect.Record) {
			for i := range 150 {
				open = append(open, one(s, i, 64<<10))
			}
			return open
		},
		"open WebSockets with half a message": func(s *inspect.Store) (open []*inspect.Record) {
			for i := range 100 {
				c := one(s, i, 0)
				c.Tunnel(true, inspect.LinesOf([]inspect.Field{{Name: "Sec-WebSocket-Extensions", Value: "permessage-deflate"}}))
				c.Content(inspect.Client, append([]byte{0x41, 127, 0, 0, 0, 0, 1, 0, 0, 0}, make([]byte, 100<<10)...))
				open = append(open, c)
			}
			return open
		},
		"event streams without an end of an event": func(s *inspect.Store) (open []*inspect.Record) {
			for i := range 150 {
				c := one(s, i, 0)
				c.Head(200, inspect.LinesOf([]inspect.Field{{Name: "Content-Type", Value: "text/event-stream"}}))
				c.Content(inspect.Server, bytes.Repeat([]byte("x"), 60<<10))
				open = append(open, c)
			}
			return open
		},
	} {
		before := heap()
		s := inspect.NewStore(room)
		open := run(s)
		if grown := heap() - before; grown > room*5/4 || s.Used() > room || s.Used() < room/2 {
			t.Errorf("%s: the heap has grown by %d KiB, %d KiB are charged, of %d KiB", name, grown>>10, s.Used()>>10, room>>10)
		}
		if all := s.Recent(); len(all) < 20 || len(all) >= 3000 {
			t.Errorf("%s: %d are remembered", name, len(all))
		}
		for _, c := range open {
			c.End(inspect.Outcome{Status: 200})
		}
		s.Clear()
		if s.Used() != 0 {
			t.Errorf("%s: %d bytes are charged for nothing", name, s.Used())
		}
	}
}

// deflated makes the messages of one side, as permessage-deflate has them.
type deflated struct {
	out bytes.Buffer
	w   *flate.Writer
}

// frame is a message in so many frames, with a ping between them.
func (d *deflated) frame(text string, frames int, takeover bool) (all []byte) {
	if d.w == nil || !takeover {
		d.w, _ = flate.NewWriter(&d.out, 6)
	}
	d.out.Reset()
	_, _ = io.WriteString(d.w, text)
	_ = d.w.Flush()
	rest := bytes.TrimSuffix(d.out.Bytes(), []byte{0, 0, 0xff, 0xff})
	for i := range frames {
		piece := rest[:len(rest)/(frames-i)]
		rest = rest[len(piece):]
		head := byte(0)
		if i == 0 {
			head |= 0x41
		}
		if i == frames-1 {
			head |= 0x80
		}
		all = append(all, head, 126)
		all = binary.BigEndian.AppendUint16(all, uint16(len(piece)))
		if all = append(all, piece...); i < frames-1 {
			all = append(all, 0x89, 1, '!')
		}
	}
	return all
}

func TestCompressedMessagesAreReadable(t *testing.T) {
	for _, takeover := range []bool{true, false} {
		extension := "permessage-deflate"
		if !takeover {
			extension += "; server_no_context_takeover; client_no_context_takeover"
		}
		for _, size := range []int{1, 7, 100_000} {
			s := inspect.NewStore(1 << 20)
			c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 8 << 10}, "/")
			c.Tunnel(true, inspect.LinesOf([]inspect.Field{{Name: "Sec-WebSocket-Extensions", Value: extension}}))
			var d deflated
			var wire []byte
			want := ""
			for i := range 5 {
				text := fmt.Sprintf(`{"number":%d,"text":"the same in every message, which refers back to it"}`, i)
				wire = append(wire, d.frame(text, 1+i%3, takeover)...)
				want += text + ";"
			}
			for len(wire) > 0 {
				n := min(size, len(wire))
				c.Content(inspect.Server, wire[:n])
				wire = wire[n:]
			}
			got := ""
			for _, m := range s.Find(c.ID()).Messages {
				if m.Kind == "text" && m.Compressed && !m.Raw && m.Inflated == int64(len(m.Data)) {
					got += string(m.Data) + ";"
				}
			}
			if got != want {
				t.Errorf("takeover %t, in pieces of %d: %s", takeover, size, got)
			}
		}
	}
}

// A few bytes that become gigabytes cost a bounded time and memory, and what comes behind them is shown as it passed.
func TestMessagesThatGrowAreNotInflated(t *testing.T) {
	s := inspect.NewStore(1 << 20)
	c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 64 << 10}, "/")
	c.Tunnel(true, inspect.LinesOf([]inspect.Field{{Name: "Sec-WebSocket-Extensions", Value: "permessage-deflate"}}))
	var d deflated
	for _, text := range []string{"fine", strings.Repeat("x", 8<<20), "behind"} {
		c.Content(inspect.Client, d.frame(text, 1, true))
	}
	all := s.Find(c.ID()).Messages
	if len(all) != 3 || string(all[0].Data) != "fine" || !all[1].Raw || all[1].Note == "" || !all[2].Raw || !strings.Contains(all[2].Note, "refers to") {
		t.Errorf("%+v", all)
	}
}

func TestContentOfAnyShapeMakesAPageOfBoundedSize(t *testing.T) {
	for name, test := range map[string]struct{ kind, content string }{
		"nested JSON": {"application/json", strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000)},
		"long JSON":   {"application/json", "[" + strings.Repeat("1,", 2<<20) + "1]"},
		"ampersands":  {"application/x-www-form-urlencoded", strings.Repeat("&", 64<<10)},
		"gRPC frames": {"application/grpc", strings.Repeat("\x00\x00\x00\x00\x00", 20_000)},
		"protobuf":    {"application/grpc", "\x00\x00\x00\x40\x00" + strings.Repeat("\x0a\x00", 8<<10)},
		"text":        {"text/plain", strings.Repeat("x", 8<<20)},
	} {
		v := inspect.NewView([]inspect.Field{{Name: "Content-Type", Value: test.kind}}, &inspect.Content{Data: []byte(test.content), Size: int64(len(test.content))}, "/a.B/C")
		size := len(v.Text) + len(v.Hex) + 100*len(v.Pairs)
		for _, f := range v.Frames {
			size += len(f.Text) + 100
		}
		if size > 600<<10 {
			t.Errorf("%s: %d KiB", name, size>>10)
		}
	}
}

func TestGRPCIsShownByNameAndField(t *testing.T) {
	inner := "\x0a\x04anna\x10\x2a"
	message := "\x0a\x05hello\x12" + string(rune(len(inner))) + inner + "\x1a\x02\xff\xfe"
	framed := func(flags byte, data string) string {
		return string(append([]byte{flags, 0, 0, 0, byte(len(data))}, data...))
	}
	fields := []inspect.Field{{Name: "Content-Type", Value: "application/grpc+proto"}, {Name: "Grpc-Encoding", Value: "gzip"}}
	content := framed(0, message) + framed(1, gzipped(message)) + framed(0, "\x07no protobuf") + framed(0x80, "grpc-status:0\r\n")
	v := inspect.NewView(fields, &inspect.Content{Data: []byte(content), Size: int64(len(content))}, "/pkg.Greeter/SayHello?x")
	want := "1: \"hello\"\n2: {\n  1: \"anna\"\n  2: 42\n}\n3: 2 bytes fffe\n"
	if len(v.Frames) != 4 || v.Frames[0].Name != "Message 1 of pkg.Greeter.SayHello" || v.Frames[0].Text != want || v.Frames[1].Text != want || !v.Frames[1].Compressed ||
		!strings.Contains(v.Frames[2].Text, "6e 6f") || v.Frames[3].Name != "Trailers of pkg.Greeter.SayHello" {
		t.Errorf("%+v", v)
	}
	r := &inspect.Request{Out: inspect.Content{Trailers: []inspect.Field{{Name: "grpc-status", Value: "5"}}}}
	if got := r.GRPCStatus(); got != "5 NOT_FOUND" {
		t.Error(got)
	}
}
