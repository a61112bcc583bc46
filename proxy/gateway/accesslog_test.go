package gateway

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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
		text := place.text.String()
		if !strings.Contains(text, `"count":100`) && !strings.Contains(text, "# 100 lines lost") || strings.Count(text, "/api/orders/17") != 1+accessLogQueue {
			t.Errorf("%s: %s", format, text[max(0, len(text)-300):])
		}
	}
}
