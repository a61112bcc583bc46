package proxy

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"padlock/traffic"
)

// lines are what was logged since they were last asked for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return strings.FieldsFunc(l.text.String(), func(r rune) bool { return r == '\n' })
}

func TestRejectedClientsAreLoggedAtOnceAndThenOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text lines
		c := newAbuseLog(slog.New(slog.NewTextHandler(&text, nil)), false)
		cut := func(n int, reason traffic.Reason, from string) {
			for range n {
				c.add(reason, netip.MustParseAddr(from))
			}
		}
		said := func(want ...string) {
			t.Helper()
			synctest.Wait()
			got := text.take()
			if len(got) != len(want) {
				t.Fatalf("%d lines, not %d: %q", len(got), len(want), got)
			}
			for i := range want {
				if !strings.Contains(got[i], want[i]) {
					t.Errorf("%s\nlacks %s", got[i], want[i])
				}
			}
		}
		cut(1, traffic.Resets, "203.0.113.9")
		said(`msg="clients were rejected" reason=resets count=1 total=1 why="too many streams`)
		cut(2, traffic.Resets, "2001:db8::1")
		cut(3, traffic.Resets, "2001:db8::2:1")
		cut(4, traffic.Resets, "203.0.113.9")
		cut(1, traffic.Malformed, "::ffff:203.0.113.7")
		said(`reason=malformed count=1`)
		time.Sleep(time.Minute)
		said(`reason=resets count=9 total=10 why="too many streams were reset, by the client or because of its errors" limit=limits.resets from="2001:db8::/64 (5), 203.0.113.9 (4)"`)
		time.Sleep(time.Hour)
		said()
		cut(1, traffic.Resets, "203.0.113.9")
		said(`reason=resets count=1 total=11`)
		c.add(traffic.Resets, netip.Addr{})
		c.close()
		said(`reason=resets count=1 total=12`)
		if counts := c.counts(); counts[traffic.Resets] != 12 || counts[traffic.Malformed] != 1 {
			t.Errorf("%v", counts)
		}
	})
}

// Whoever floods is named, however many others there are; and nobody's address is kept whole where that is not wanted.
func TestTheMostFrequentClientsAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text lines
		c := newAbuseLog(slog.New(slog.NewTextHandler(&text, nil)), true)
		c.add(traffic.NoopFrames, netip.Addr{})
		synctest.Wait()
		text.take()
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				c.add(traffic.NoopFrames, netip.MustParseAddr(fmt.Sprintf("10.%d.%d.1", i/250, i%250)))
				c.add(traffic.NoopFrames, netip.MustParseAddr("203.0.113.9"))
			})
		}
		all.Wait()
		if n := len(c.tallies[traffic.NoopFrames].from); n > maxSources {
			t.Errorf("%d addresses are kept", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if line := strings.Join(text.take(), "\n"); !strings.Contains(line, `count=2000 `) || !strings.Contains(line, `from="203.0.113.0/24 (1`) || !strings.Contains(line, "and 59 more") {
			t.Error(line)
		}
	})
}

func TestEveryReasonHasAName(t *testing.T) {
	names := map[string]bool{}
	for r := range traffic.Reasons {
		if r.String() == "" || r.Why() == "" || names[r.String()] {
			t.Errorf("reason %d: %q, %q", r, r, r.Why())
		}
		names[r.String()] = true
	}
}

func BenchmarkCut(b *testing.B) {
	c := newAbuseLog(slog.New(slog.DiscardHandler), false)
	client := netip.MustParseAddr("203.0.113.9")
	b.ReportAllocs()
	for b.Loop() {
		c.add(traffic.Resets, client)
	}
}
