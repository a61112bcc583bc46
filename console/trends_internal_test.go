package console

import (
	"testing"
	"time"

	"padlock/handshake"
)

func TestTrendsAreThoseOfTheLastHour(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 30, 0, time.UTC)
	trends := NewTrends()
	trends.clock = func() time.Time { return now }
	of := func(version uint16, group string) *handshake.Event {
		return &handshake.Event{Outcome: handshake.Complete, Version: version, Group: group}
	}
	trends.Handshake(of(0x0303, ""))
	now = now.Add(59 * time.Minute)
	trends.Handshake(of(0x0304, "X25519"))
	trends.Handshake(of(0x0304, "X25519"))
	h := trends.hour()
	if h.Versions[0].Name != "TLS 1.3" || h.Versions[0].Minutes[59] != 2 || h.Versions[1].Minutes[0] != 1 || h.Groups[1].Name != "RSA" {
		t.Errorf("%+v", h)
	}
	now = now.Add(time.Minute)
	if h := trends.hour(); len(h.Versions) != 1 || h.Complete.Count != 2 || h.Versions[0].Minutes[58] != 2 {
		t.Errorf("an hour later %+v", h)
	}
	now = now.Add(10 * time.Hour)
	if h := trends.hour(); h.Complete.Count != 0 || h.All != 3 {
		t.Errorf("much later %+v", h)
	}
}

func TestWhatIsRareCountsTogether(t *testing.T) {
	var shares []Share
	for i := range 9 {
		s := Share{Name: string(rune('a' + i))}
		s.add(59, 10-i)
		shares = append(shares, s)
	}
	c := newChart("Key agreement", shares)
	if len(c.Legend) != chartSeries || c.Legend[4].Name != "others" || c.Legend[4].Part != "37 %" {
		t.Errorf("%+v", c.Legend)
	}
	if empty := newChart("Key agreement", nil); empty.Words != "nothing yet" {
		t.Errorf("%+v", empty)
	}
}
