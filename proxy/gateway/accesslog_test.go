package gateway

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"padlock/config"
	"padlock/proxy/message"
)

// stuck is a log's place that takes nothing until it is let go.
type stuck struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *stuck) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// A place that cannot keep up costs lines, which are counted and told, and no request its time.
func TestLinesThatAreLostAreCounted(t *testing.T) {
	for _, format := range []string{"json", "combined"} {
		place := &stuck{}
		place.mu.Lock()
		log := NewAccessLog(&config.AccessLog{Format: format}, place, new(atomic.Uint64))
		r, _ := arrived("app.test")
		r.Client = r.Conn.Client
		r.Fields = message.Fields{}
		began := time.Now()
		record := func() { log.record(&Exchange{request: r, start: began, target: r.Target}) }
		record()
		for log.writing.Load() == 0 { // until the writer is stuck with it
			time.Sleep(time.Millisecond)
		}
		const extra = 100
		for range accessLogQueue + extra {
			record()
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: %v", format, took)
		}
		place.mu.Unlock()
		log.Close()
		text := ""
		whole := func() bool {
			place.mu.Lock()
			defer place.mu.Unlock()
			text = place.text.String()
			return (strings.Contains(text, `"count":100`) || strings.Contains(text, "# 100 lines lost")) && strings.Count(text, "/api/orders/17") == 1+accessLogQueue
		}
		// On a busy machine the writer may not be done when Close gives up.
		for end := time.Now().Add(10 * time.Second); !whole() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if !whole() {
			t.Errorf("%s: %s", format, text[max(0, len(text)-300):])
		}
	}
}

// timed notes when each write came, and what it brought.
type timed struct {
	mu     sync.Mutex
	began  time.Time
	writes []string
	after  []time.Duration
}

func (w *timed) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes, w.after = append(w.writes, string(p)), append(w.after, time.Since(w.began))
	return len(p), nil
}

// No line waits longer than 100 ms, a line that comes alone next to not at all, and many are written in batches of whole lines, in
// their order: what a kill costs is bounded by both.
func TestLinesWaitAHundredMillisecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place := &timed{began: time.Now()}
		log := NewAccessLog(&config.AccessLog{Format: "json"}, place, new(atomic.Uint64))
		line := func(n int) string { return fmt.Sprintf("line %05d %s\n", n, strings.Repeat("x", 100)) }

		log.add([]byte(line(0))) // alone
		time.Sleep(50 * time.Millisecond)
		log.add([]byte(line(1)))
		time.Sleep(time.Second)
		synctest.Wait()
		if fmt.Sprint(place.after) != "[5ms 105ms]" {
			t.Errorf("lines were written after %v", place.after)
		}

		const many = 2000
		for n := 2; n < many; n++ {
			log.add([]byte(line(n)))
			time.Sleep(time.Microsecond)
		}
		began := time.Since(place.began)
		time.Sleep(time.Second)
		synctest.Wait()
		for i, at := range place.after {
			if at > began+100*time.Millisecond {
				t.Errorf("write %d came after %v", i, at)
			}
			if len(place.writes[i]) > accessLogBatch+len(line(0)) || !strings.HasSuffix(place.writes[i], "\n") {
				t.Errorf("write %d has %d bytes", i, len(place.writes[i]))
			}
		}
		if n := len(place.writes); n < 5 || n > 20 {
			t.Errorf("%d writes", n)
		}

		var want strings.Builder
		for n := range many {
			want.WriteString(line(n))
		}
		if strings.Join(place.writes, "") != want.String() {
			t.Error("lines are missing, or out of order")
		}
		log.Close()
	})
}
