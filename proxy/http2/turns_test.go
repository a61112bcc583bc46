package http2

import (
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/message"
)

const (
	crowd  = 16 // streams that wait at once
	rounds = 3  // in which each has its turn
)

// inTurn fails if a stream has sent again while most others waited: who is between two frames of its content is not in
// the line, so the order is not always the same.
func inTurn(t *testing.T, sent []uint32) {
	t.Helper()
	if len(sent) != rounds*crowd {
		t.Errorf("%d frames were sent", len(sent))
	}
	last := map[uint32]int{}
	for i, stream := range sent {
		if before, ok := last[stream]; ok && i-before <= crowd/4 {
			t.Errorf("stream %d has sent frames %d and %d, of %d streams: %d", stream, before, i, crowd, sent)
			return
		}
		last[stream] = i
	}
	if len(last) < crowd {
		t.Errorf("only %d of %d streams have sent: %d", len(last), crowd, sent)
	}
}

// Of uploads that wait for the window of their connection to a target, each has its turn. One whose own window is used
// up, or that ends, does not keep the others waiting.
func TestUploadsTakeTurns(t *testing.T) {
	t.Parallel()
	full, joined, sent := make(chan struct{}), make(chan struct{}), make(chan []uint32, 1)
	tr := target(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: maxFrame}}, func(p *peer) {
		var order []uint32
		used, granted := 0, false
		for {
			switch f := p.next().(type) {
			case nil:
				return
			case *http2.MetaHeadersFrame:
				own := uint32(rounds * maxFrame)
				if f.StreamID == 1 {
					own = initialWindow - maxFrame
				}
				_ = p.WriteWindowUpdate(f.StreamID, own)
			case *http2.DataFrame:
				if granted {
					order = append(order, f.StreamID)
				}
				if used += len(f.Data()); used == initialWindow {
					close(full)
					<-joined
					granted = true
				}
				if len(order) == rounds*crowd {
					sent <- order
				} else if granted {
					_ = p.WriteWindowUpdate(0, maxFrame)
				}
			}
		}
	})

	begin := sync.OnceFunc(func() { close(joined) })
	t.Cleanup(begin)
	waiting := func(n int) {
		tr.mu.Lock()
		b := tr.backends[0]
		tr.mu.Unlock()
		for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			b.mu.Lock()
			now := len(b.turns.waiting)
			b.mu.Unlock()
			if now == n {
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("%d uploads wait, not %d", now, n)
			}
		}
	}

	var all sync.WaitGroup
	contexts := make([]message.Context, 2+crowd)
	upload := func(i, size int) {
		all.Go(func() {
			if response, err := tr.RoundTrip(&contexts[i], posting("/", whole(strings.Repeat("x", size)), -1), &interims{}); err == nil {
				response.Body.Close()
			}
		})
	}

	// The first uses up the connection's window, and its own, and so waits in no line.
	upload(0, 1<<20)
	<-full
	upload(1, 1<<20)
	waiting(1)
	for i := range crowd {
		upload(2+i, 1<<20)
		waiting(2 + i)
	}
	contexts[1].Cancel()
	waiting(crowd)
	begin()

	select {
	case order := <-sent:
		inTurn(t, order)
	case <-time.After(20 * time.Second):
		t.Error("the uploads do not go on")
	}
	for i := range contexts {
		contexts[i].Cancel()
	}
	all.Wait()
}

// Of responses that wait for the window of their client's connection, each has its turn.
func TestResponsesTakeTurns(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ *message.Context, _ *message.Request, w message.Writer) {
		_ = w.Head(200, nil, -1)
		for range 100 {
			if _, err := w.Write(make([]byte, maxFrame)); err != nil {
				return
			}
		}
	}, func(o *ServerOptions) { o.BodyIdle = time.Minute })
	c := dial(t, s, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})

	frame := func() http2.Frame {
		f, err := c.next()
		c.must(err)
		return f
	}
	c.request(1, true, get...)
	for used := 0; used < initialWindow; {
		if f, ok := frame().(*http2.DataFrame); ok {
			used += len(f.Data())
		}
	}

	// The head of a response goes out when its stream waits.
	for i := range crowd - 1 {
		c.request(uint32(3+2*i), true, get...)
	}
	for heads := 0; heads < crowd-1; {
		if _, ok := frame().(*http2.MetaHeadersFrame); ok {
			heads++
		}
	}

	var sent []uint32
	for len(sent) < rounds*crowd {
		c.must(c.framer.WriteWindowUpdate(0, maxFrame))
		for {
			if f, ok := frame().(*http2.DataFrame); ok {
				sent = append(sent, f.StreamID)
				break
			}
		}
	}
	inTurn(t, sent)
}
