package inspect_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"padlock/inspect"
)

func begin(s *inspect.Store, l *inspect.Limits, target string, fields ...inspect.Field) *inspect.Record {
	return s.Begin(l, time.Now(), &inspect.Arrival{Method: "GET", Scheme: "https", Host: l.Site, Target: target}, inspect.LinesOf(fields), nil)
}

func archive(all ...*inspect.Request) string {
	var b strings.Builder
	_ = inspect.WriteHAR(&b, "dev", slices.Values(all))
	return b.String()
}

func targets(s *inspect.Store) (all []string) {
	for _, r := range s.Recent() {
		all = append(all, r.Site+r.Target)
	}
	return all
}

func TestTheOldestRequestIsForgottenFirst(t *testing.T) {
	s := inspect.NewStore(1 << 20)
	a, b := &inspect.Limits{Site: "a", Requests: 2, Body: 1 << 10}, &inspect.Limits{Site: "b", Requests: 100, Body: 600 << 10}
	for i := range 3 {
		begin(s, a, fmt.Sprintf("/%d", i)).End(inspect.Outcome{Status: 200})
	}
	if got := targets(s); !slices.Equal(got, []string{"a/2", "a/1"}) {
		t.Errorf("a site's own number: %v", got)
	}

	// Two of these do not fit beside each other.
	first := begin(s, b, "/large")
	first.Content(inspect.Client, make([]byte, 600<<10))
	second := begin(s, b, "/larger")
	second.Content(inspect.Client, make([]byte, 600<<10))
	if got := targets(s); !slices.Equal(got, []string{"b/larger"}) || s.Used() > 1<<20 {
		t.Errorf("all together: %v, %d bytes", got, s.Used())
	}

	// What is forgotten while it is under way costs nothing any more.
	used := s.Used()
	first.Content(inspect.Server, make([]byte, 100<<10))
	first.Head(200, inspect.LinesOf([]inspect.Field{{Name: "X", Value: "y"}}))
	first.End(inspect.Outcome{Status: 200})
	if s.Used() != used || s.Find(first.ID()) != nil {
		t.Errorf("%d bytes became %d", used, s.Used())
	}
	s.Keep(map[string]*inspect.Limits{"a": a})
	if got := targets(s); len(got) > 0 || s.Used() != 0 {
		t.Errorf("a site without inspect: %v, %d", got, s.Used())
	}
}

func TestContentIsCutAtTheLimitAndNeverShared(t *testing.T) {
	s := inspect.NewStore(1 << 20)
	c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 10}, "/")
	buffer := []byte("0123456")
	c.Content(inspect.Server, buffer)
	before := s.Find(c.ID())
	copy(buffer, "XXXXXXX")
	c.Content(inspect.Server, buffer)
	after := s.Find(c.ID())
	if string(before.Out.Data) != "0123456" || string(after.Out.Data) != "0123456XXX" || !after.Out.Cut || after.Out.Size != 14 || before.Out.Cut {
		t.Errorf("%q %q %+v", before.Out.Data, after.Out.Data, after.Out)
	}
}

func TestSecretsAreHiddenAndWithRedactNotKept(t *testing.T) {
	fields := func() []inspect.Field {
		return []inspect.Field{{Name: "authorization", Value: "Bearer s3cret"}, {Name: "X-Mine", Value: "s3cret"}, {Name: "Referer", Value: "https://a/?token=s3cret&x=1"},
			{Name: "X-Key", Value: "s3cret"}, {Name: "Content-Type", Value: "application/x-www-form-urlencoded"}, {Name: "Accept", Value: "*/*"}}
	}
	for _, redact := range []bool{false, true} {
		s := inspect.NewStore(1<<20, "token", "X-Mine")
		c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 10, Redact: redact, Secret: []string{"x-key"}}, "/p?token=s3cret&page=2", fields()...)
		c.Content(inspect.Client, []byte("token=s3cret&name=anna"))
		if redact && len(s.Find(c.ID()).In.Data) > 0 {
			t.Error("content is shown before it is redacted")
		}
		c.Trying("http://x", 0, "GET", "a", "/p?token=s3cret", inspect.LinesOf(fields()))
		c.Answered(inspect.Try{Status: 200}, inspect.LinesOf([]inspect.Field{{Name: "Set-Cookie", Value: "s3cret"}}))
		c.Head(200, inspect.LinesOf([]inspect.Field{{Name: "Set-Cookie", Value: "s3cret"}, {Name: "Location", Value: "/?token=s3cret"}}))
		c.End(inspect.Outcome{Status: 200})

		shown, kept := s.Find(c.ID()), s.Find(c.ID())
		if s.Conceal(shown) == redact {
			t.Errorf("redact %t: there is something to hide", redact)
		}
		for what, r := range map[string]*inspect.Request{"shown": shown, "kept": kept, "listed": s.Recent()[0]} {
			text := fmt.Sprintf("%+v %s %s", r, r.In.Data, archive(r))
			if has, want := strings.Contains(text, "s3cret"), what == "kept" && !redact; has != want {
				t.Errorf("redact %t: what is %s has secrets: %t\n%s", redact, what, has, text)
			}
		}
		if text := string(shown.In.Data); !strings.Contains(text, "name=anna") || !strings.Contains(shown.Target, "page=2") {
			t.Errorf("more than secrets is hidden: %s", text)
		}
	}
}

func TestMessagesAreFoundInPiecesOfAnySize(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 300)
	frames := slices.Concat([]byte{0x01, 0x83, 1, 2, 3, 4, 'a' ^ 1, 'b' ^ 2, 'c' ^ 3}, []byte{0x80, 0x80, 9, 9, 9, 9}, []byte{0x82, 126, 1, 44}, long, []byte{0x88, 2, 3, 0xe8})
	events := ": hello\n\nevent: tick\r\ndata: 1\r\n\r\nid: 5\ndata: 2\n\n"
	for size := 1; size < 40; size++ {
		s := inspect.NewStore(1 << 20)
		c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 10}, "/")
		c.Tunnel(true, nil)
		for piece := range slices.Chunk(frames, size) {
			c.Content(inspect.Client, piece)
		}
		got := ""
		for _, m := range s.Find(c.ID()).Messages {
			got += fmt.Sprintf("%s %d %t %.4s; ", m.Kind, m.Size, m.Part, m.Data)
		}
		if want := "text 3 true abc; continuation 0 false ; binary 300 false xxxx; close 1000 2 false ; "; got != want {
			t.Fatalf("in pieces of %d: %q", size, got)
		}

		c = begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 10}, "/")
		c.Head(200, inspect.LinesOf([]inspect.Field{{Name: "content-type", Value: "text/event-stream; charset=utf-8"}}))
		for piece := range slices.Chunk([]byte(events), size) {
			c.Content(inspect.Server, piece)
		}
		got = ""
		for _, m := range s.Find(c.ID()).Messages {
			got += m.Kind + " " + string(m.Data) + "; "
		}
		if want := "comment : hello; tick event: tick\ndata: 1; event id: 5\ndata: 2; "; got != want {
			t.Fatalf("in pieces of %d: %q", size, got)
		}
	}
}

func TestTheLastMessagesOfManyAreKept(t *testing.T) {
	s := inspect.NewStore(1 << 20)
	c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 4 << 10}, "/")
	c.Tunnel(true, nil)
	for i := range 10_000 {
		c.Content(inspect.Server, []byte{0x82, 2, byte(i >> 8), byte(i)})
	}
	r := s.Find(c.ID())
	last := r.Messages[len(r.Messages)-1]
	if len(r.Messages)+r.Earlier != 10_000 || len(r.Messages) > 40 || !bytes.Equal(last.Data, []byte{0x27, 0x0f}) || s.Used() > 16<<10 {
		t.Errorf("%d messages, %d before, %d bytes", len(r.Messages), r.Earlier, s.Used())
	}
}

// Frames that say that they are as long as no memory is cost what has come.
func TestAFrameCostsWhatHasCome(t *testing.T) {
	s := inspect.NewStore(1 << 20)
	c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 10}, "/")
	c.Tunnel(true, nil)
	c.Content(inspect.Client, []byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4})
	for range 100 {
		c.Content(inspect.Client, make([]byte, 16<<10))
	}
	if s.Used() > 16<<10 {
		t.Errorf("%d bytes", s.Used())
	}
}

func TestWhoeverLooksSeesWhatHasChanged(t *testing.T) {
	s := inspect.NewStore(1 << 20)
	l := &inspect.Limits{Site: "a", Requests: 9, Body: 10}
	one := begin(s, l, "/1")
	begin(s, l, "/2")
	changed, seen := s.Since(0)
	if len(changed) != 2 {
		t.Fatalf("%d", len(changed))
	}
	if changed, _ = s.Since(seen); len(changed) != 0 {
		t.Errorf("nothing has changed, but %d", len(changed))
	}
	one.End(inspect.Outcome{Status: 404, Duration: time.Second})
	if changed, _ = s.Since(seen); len(changed) != 1 || changed[0].Status != 404 || !changed[0].Done {
		t.Errorf("%+v", changed)
	}
}

// Requests are written and read at once; the race detector looks on.
func TestManyWriteWhileManyLook(t *testing.T) {
	s := inspect.NewStore(64 << 10)
	l := &inspect.Limits{Site: "a", Requests: 20, Body: 1 << 10}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 100 {
				c := begin(s, l, "/", inspect.Field{Name: "Cookie", Value: "a"})
				c.Trying("http://x", 0, "GET", "a", "/", inspect.LinesOf([]inspect.Field{{Name: "A", Value: "b"}}))
				var sides sync.WaitGroup
				sides.Go(func() { c.Content(inspect.Client, make([]byte, 700)) })
				c.Answered(inspect.Try{Status: 200}, nil)
				c.Head(200, nil)
				c.Content(inspect.Server, make([]byte, 700+i))
				sides.Wait()
				c.End(inspect.Outcome{Status: 200})
			}
		})
		all.Go(func() {
			for range 100 {
				for _, r := range s.Recent() {
					if is := s.Find(r.ID); is != nil {
						s.Conceal(is)
						_ = archive(is)
					}
				}
			}
		})
	}
	all.Wait()
	if s.Used() > 64<<10 || len(s.Recent()) > 20 {
		t.Errorf("%d bytes of %d requests", s.Used(), len(s.Recent()))
	}
}

// Memory that others are remembered in is never that of a request that somebody has read, or writes to: whatever is read
// of a request is its own.
func TestARequestNeverHasWhatIsAnothers(t *testing.T) {
	s := inspect.NewStore(200 << 10)
	l := &inspect.Limits{Site: "a", Requests: 8, Body: 9 << 10}
	line := func(mark string) inspect.Lines {
		return inspect.LinesOf([]inspect.Field{{Name: "X-Mark", Value: mark}, {Name: "X-Long", Value: strings.Repeat(mark, 30)}})
	}
	own := func(r *inspect.Request) {
		mark := strings.TrimPrefix(r.Target, "/")
		text := fmt.Sprintf("%s%s%s%s%s", r.Host, r.SentTarget, r.User, r.Error, r.RequestID)
		for _, all := range [][]inspect.Field{r.Received, r.Sent, r.Answered, r.Response, r.Out.Trailers} {
			for _, f := range all {
				text += f.Value
			}
		}
		for _, try := range r.Tries {
			text += try.Target
		}
		text += string(r.In.Data) + string(r.Out.Data)
		if rest := strings.ReplaceAll(text, mark, ""); rest != "" {
			t.Errorf("%q has %q", mark, rest)
		}
	}
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 200 {
				mark := fmt.Sprintf("<%d:%d>", worker, i)
				c := s.Begin(l, time.Now(), &inspect.Arrival{Host: mark, Target: "/" + mark, RequestID: mark}, line(mark), nil)
				c.Trying(mark, 0, "", "", mark, line(mark))
				var sides sync.WaitGroup
				sides.Go(func() {
					for range 3 {
						c.Content(inspect.Client, []byte(strings.Repeat(mark, 50*(i%5))))
					}
				})
				c.Answered(inspect.Try{Status: 200}, line(mark))
				c.Head(200, line(mark))
				for range 5 {
					c.Content(inspect.Server, []byte(strings.Repeat(mark, 30)))
				}
				sides.Wait()
				c.Trailers(inspect.Server, line(mark))
				c.End(inspect.Outcome{Status: 200, User: mark, Error: mark})
			}
		})
		all.Go(func() {
			var kept []*inspect.Request
			for range 200 {
				for _, r := range s.Recent() {
					if is := s.Find(r.ID); is != nil {
						own(is)
						kept = append(kept, r, is)
					}
				}
				if len(kept) > 100 {
					s.Clear()
					for _, r := range kept {
						own(r)
					}
					kept = nil
				}
			}
		})
	}
	all.Wait()
	if s.Used() > 200<<10 {
		t.Errorf("%d bytes", s.Used())
	}
}

// Lists, content and messages of any length come back as they went in, wherever a page ends.
func TestWhatIsNotedComesBackWhateverItsLength(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 1000, 2030, 4090, 4096, 5000, 20_000} {
		for _, content := range []int{0, 1, 5, 1024, 4091, 4092, 30_000} {
			s := inspect.NewStore(1 << 20)
			long := []inspect.Field{{Name: "A", Value: strings.Repeat("v", size)}, {Name: strings.Repeat("n", size), Value: "B"}}
			c := begin(s, &inspect.Limits{Site: "a", Requests: 9, Body: 1 << 20}, "/"+strings.Repeat("t", size), long...)
			want := ""
			for i := range 3 {
				piece := strings.Repeat(string(rune('a'+i)), content)
				c.Content(inspect.Server, []byte(piece))
				want += piece
			}
			c.Trying("http://x", time.Second, "PUT", "h", strings.Repeat("p", size), inspect.LinesOf(long))
			c.Missed(inspect.Try{Error: "refused", Took: time.Minute})
			c.Trying("http://y", 2*time.Second, "PUT", "h", strings.Repeat("q", size), inspect.LinesOf(long))
			c.Answered(inspect.Try{Status: 204, TLS: 5}, inspect.LinesOf(long))
			c.Interim(103)
			c.Head(200, inspect.LinesOf(long))
			c.Trailers(inspect.Client, inspect.LinesOf(long))
			c.End(inspect.Outcome{})
			r := s.Find(c.ID())
			for which, got := range map[string][]inspect.Field{"received": r.Received, "sent": r.Sent, "answered": r.Answered, "response": r.Response, "trailers": r.In.Trailers} {
				if !slices.Equal(got, long) {
					t.Errorf("%d, %d: %s: %.200v", size, content, which, got)
				}
			}
			tries := []inspect.Try{{Target: "http://x", At: time.Second, Error: "refused", Took: time.Minute}, {Target: "http://y", At: 2 * time.Second, Status: 204, TLS: 5}}
			if len(r.Target) != 1+size || r.SentTarget != strings.Repeat("q", size) || string(r.Out.Data) != want || !slices.Equal(r.Tries, tries) ||
				!slices.Equal(r.Interim, []int{103}) || r.Status != 200 || r.TargetStatus != 204 || r.Out.Cut {
				t.Errorf("%d, %d: %.500v", size, content, r)
			}
		}
	}
}
