package http2

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"padlock/proxy/message"
)

const markerSize = 8

func marker(id int64) string { return fmt.Sprintf("%07d ", id) }

// marked is content of n bytes that repeats a marker.
type marked struct {
	text  string
	left  int
	at    atomic.Int64
	ready bool // all of it is at hand
	slow  time.Duration
	gone  chan struct{}
	once  sync.Once
}

func (m *marked) Read(p []byte) (int, error) {
	select {
	case <-m.gone:
		return 0, errors.New("closed")
	case <-time.After(m.slow):
	}
	if m.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), m.left)
	for i := range n {
		p[i] = m.text[(int(m.at.Load())+i)%markerSize]
	}
	m.at.Add(int64(n))
	m.left -= n
	return n, nil
}
func (m *marked) Close() error             { m.once.Do(func() { close(m.gone) }); return nil }
func (m *marked) Trailers() message.Fields { return nil }
func (m *marked) Received() int64          { return m.at.Load() }
func (m *marked) Buffered() int {
	if m.ready {
		return m.left
	}
	return 0
}

// frenzy is a target that says anything at any time. What it says about a stream has the marker of its request.
type frenzy struct {
	t    *testing.T
	mu   sync.Mutex
	seen map[string]bool  // requests that it may have processed
	last map[*peer]uint32 // stream that it processes, as GOAWAY says
}

// known is a stream as the target sees it.
type known struct {
	id       uint32
	marker   string
	post     bool
	got      int
	answered bool
	sent     int
}

func (f *frenzy) serve(p *peer) {
	f.mu.Lock()
	f.last[p] = 1<<31 - 1
	f.mu.Unlock()
	var mu sync.Mutex
	var all []*known
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		byID := map[uint32]*known{}
		for {
			frame, err := p.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.MetaHeadersFrame:
				k := &known{id: frame.StreamID, marker: frame.PseudoValue("path")[1:8] + " ", post: frame.PseudoValue("method") == "POST"}
				f.mu.Lock()
				if ignored := k.id > f.last[p]; !ignored {
					if k.post && f.seen[k.marker] {
						f.t.Errorf("%s was sent again", k.marker)
					}
					f.seen[k.marker] = true
				}
				f.mu.Unlock()
				byID[k.id] = k
				mu.Lock()
				all = append(all, k)
				mu.Unlock()
			case *http2.DataFrame:
				k := byID[frame.StreamID]
				for _, c := range frame.Data() {
					if c != k.marker[k.got%markerSize] {
						f.t.Errorf("%s has other content: %q", k.marker, c)
						break
					}
					k.got++
				}
			}
		}
	}()
	defer func() { p.Close(); <-ended }()
	for {
		select {
		case <-ended:
			return
		default:
		}
		if r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		}
		mu.Lock()
		n := len(all)
		if n == 0 {
			mu.Unlock()
			time.Sleep(time.Millisecond)
			continue
		}
		// Mostly one of the latest.
		k := all[max(0, n-1-r.IntN(1+r.IntN(20)))]
		if f.act(p, r, k, all) {
			mu.Unlock()
			return
		}
		mu.Unlock()
	}
}

func (f *frenzy) data(p *peer, r *rand.Rand, k *known, end bool) {
	n := r.IntN(1 << r.IntN(14))
	b := make([]byte, n)
	for i := range b {
		b[i] = k.marker[(k.sent+i)%markerSize]
	}
	k.sent += n
	if r.IntN(3) == 0 {
		_ = p.WriteDataPadded(k.id, end, b, make([]byte, r.IntN(255)))
	} else {
		_ = p.WriteData(k.id, end, b)
	}
}

func (f *frenzy) act(p *peer, r *rand.Rand, k *known, all []*known) (over bool) {
	end := r.IntN(3) == 0
	switch n := r.IntN(1000); {
	case n < 250:
		k.answered = true
		lines := []string{":status: 200", "x-marker: " + k.marker[:7]}
		if r.IntN(5) == 0 {
			lines = append(lines, fmt.Sprint("content-length: ", r.IntN(100)))
		}
		p.head(k.id, end, lines...)
	case n < 600:
		if k.answered || r.IntN(50) == 0 {
			f.data(p, r, k, end)
		}
	case n < 640:
		p.head(k.id, true, "x-marker: "+k.marker[:7])
		k.answered = true
	case n < 680:
		k.answered = true
		p.head(k.id, r.IntN(40) == 0, ":status: 103", "x-marker: "+k.marker[:7])
	case n < 700:
		k.answered = true
		p.head(k.id, false, ":status: 100")
	case n < 740:
		code := http2.ErrCode(r.IntN(14))
		if code == http2.ErrCodeRefusedStream && !k.answered {
			f.mu.Lock()
			delete(f.seen, k.marker)
			f.mu.Unlock()
		}
		k.answered = true
		_ = p.WriteRSTStream(k.id, code)
	case n < 860:
		_ = p.WriteWindowUpdate(k.id, uint32(1+r.IntN(1<<r.IntN(17))))
		_ = p.WriteWindowUpdate(0, uint32(1+r.IntN(1<<r.IntN(17))))
	case n < 900:
		_ = p.WritePing(r.IntN(2) == 0, [8]byte{})
	case n < 930:
		settings := []http2.Setting{
			{ID: http2.SettingInitialWindowSize, Val: []uint32{0, 1, 100, 65535, 1 << 20}[r.IntN(5)]},
			{ID: http2.SettingMaxConcurrentStreams, Val: []uint32{0, 1, 2, 10, 100, 100, 100}[r.IntN(7)]},
			{ID: http2.SettingHeaderTableSize, Val: uint32(r.IntN(10000))},
		}
		_ = p.WriteSettings(settings[r.IntN(3)])
	case n < 932:
		last := []uint32{0, k.id, k.id - 2, 1<<31 - 1}[r.IntN(4)]
		f.mu.Lock()
		f.last[p] = min(f.last[p], last)
		for _, k := range all {
			if k.id > last && !k.answered {
				delete(f.seen, k.marker)
				k.answered = true
			}
		}
		f.mu.Unlock()
		_ = p.WriteGoAway(last, http2.ErrCode(r.IntN(14)), nil)
	case n < 934:
		return true
	case n == 934:
		time.Sleep(80 * time.Millisecond)
	case n == 935:
		_ = p.WriteRawFrame(http2.FrameType(10+r.IntN(12)), http2.Flags(r.IntN(256)), k.id, make([]byte, r.IntN(20)))
	case n == 936:
		_ = p.WriteWindowUpdate(0, 1<<31-1)
	}
	return false
}

// Whatever a target says at whatever moment, an answer is the request's own, no POST goes out twice that may have been processed, and
// nothing is left behind. FRENZY=1m makes it last.
func TestFrenzy(t *testing.T) {
	length := 300 * time.Millisecond
	if d, err := time.ParseDuration(os.Getenv("FRENZY")); err == nil {
		length = d
	}
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for n := 0; runtime.NumGoroutine() > before; n++ {
			if n == 300 {
				buf := make([]byte, 1<<20)
				t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	f := &frenzy{t: t, seen: map[string]bool{}, last: map[*peer]uint32{}}
	tr := targetWith(t, TransportOptions{ResponseHeader: 300 * time.Millisecond, Idle: 50 * time.Millisecond}, nil, f.serve)
	tr.pingAfter, tr.pongWithin = 100*time.Millisecond, 200*time.Millisecond

	var ids, whole, broken, failed, unprocessed atomic.Int64
	var asking sync.WaitGroup
	stop := time.Now().Add(length)
	for range 48 {
		asking.Go(func() {
			for time.Now().Before(stop) {
				f.one(tr, ids.Add(1), &whole, &broken, &failed, &unprocessed)
			}
		})
	}
	asking.Wait()
	t.Logf("%d requests: %d whole, %d broken, %d failed, %d unprocessed", ids.Load(), whole.Load(), broken.Load(), failed.Load(), unprocessed.Load())
	tr.mu.Lock()
	all := append([]*backend(nil), tr.backends...)
	tr.mu.Unlock()
	for _, b := range all {
		b.mu.Lock()
		if b.reserved != 0 || len(b.streams) != 0 || b.grown != 0 {
			t.Errorf("%d places, %d streams, %d grown", b.reserved, len(b.streams), b.grown)
		}
		b.mu.Unlock()
	}
	tr.Close()
}

type markedInterims struct {
	t      *testing.T
	marker string
}

func (i *markedInterims) Interim(_ int, fields message.Fields) error {
	if got := fields.Value("x-marker"); got != i.marker[:7] {
		i.t.Errorf("%s got the hint of %s", i.marker, got)
	}
	return nil
}

func (f *frenzy) one(tr *Transport, id int64, whole, broken, failed, unprocessed *atomic.Int64) {
	t := f.t
	text := marker(id)
	r := getting("/" + text[:7])
	var content *marked
	if kind := rand.IntN(5); kind > 0 {
		content = &marked{text: text, left: rand.IntN(1 << rand.IntN(19)), gone: make(chan struct{}), ready: kind < 3}
		if kind == 3 {
			content.slow = time.Millisecond
		}
		r = posting("/"+text[:7], content, -1)
		if rand.IntN(2) == 0 {
			r.ContentLength = int64(content.left)
		}
		r.Expect = kind == 4 || kind == 2
		if r.Expect {
			content.ready = false
		}
	}
	var ctx message.Context
	if rand.IntN(2) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, ctx.Cancel)
	}
	began := time.Now()
	response, err := tr.RoundTrip(&ctx, r, &markedInterims{t, text})
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v: %v", took, err)
	}
	if err != nil {
		failed.Add(1)
		if errors.Is(err, ErrUnprocessed) {
			unprocessed.Add(1)
		}
		return
	}
	defer response.Body.Close()
	if got := response.Fields.Value("x-marker"); got != text[:7] {
		t.Errorf("%s got the answer of %s", text, got)
	}
	room := make([]byte, 1+rand.IntN(5000))
	for at := 0; ; {
		n, err := response.Body.Read(room)
		for _, c := range room[:n] {
			if c != text[at%markerSize] {
				t.Errorf("%s has other content: %q", text, room[:n])
				return
			}
			at++
		}
		switch {
		case errors.Is(err, io.EOF):
			whole.Add(1)
			if trailers := response.Body.Trailers(); len(trailers) > 0 && trailers.Value("x-marker") != text[:7] {
				t.Errorf("%s got trailers %v", text, trailers)
			}
			return
		case err != nil:
			broken.Add(1)
			return
		case rand.IntN(200) == 0:
			return
		}
		if time.Since(began) > time.Second {
			return
		}
	}
}
