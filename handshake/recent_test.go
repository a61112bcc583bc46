package handshake

import (
	"bytes"
	"context"
	"testing"
	"time"
)

func ids(events []*Event) (all []uint64) {
	for _, e := range events {
		all = append(all, e.ID)
	}
	return all
}

func equal(a, b []uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// A busy server's successes do not push out the failure that somebody is looking for.
func TestFailuresAreRememberedBesideWhatCameLast(t *testing.T) {
	r := NewRecent(3)
	r.Handshake(&Event{ID: 1, Outcome: Failed})
	r.Handshake(&Event{ID: 2, Outcome: Failed, Noise: "scan"})
	for id := range uint64(4) {
		r.Handshake(&Event{ID: id + 3, Outcome: Complete})
	}
	if got := ids(r.Events()); !equal(got, []uint64{6, 5, 4, 1}) {
		t.Errorf("remembered are %v", got)
	}
	if got := ids(r.Failures()); !equal(got, []uint64{1}) {
		t.Errorf("failures are %v", got)
	}
	if r.Find(1) == nil || r.Find(6) == nil || r.Find(2) != nil || r.Find(3) != nil || r.Find(7) != nil {
		t.Error("what is found is not what is remembered")
	}
}

func TestWhatCameSinceIsToldInOrder(t *testing.T) {
	r := NewRecent(3)
	if events, count := r.Since(0); len(events) != 0 || count != 0 {
		t.Errorf("%v, %d", events, count)
	}
	for id := range uint64(5) {
		r.Handshake(&Event{ID: id + 1, Outcome: Complete})
	}
	for seen, want := range map[uint64][]uint64{0: {3, 4, 5}, 3: {4, 5}, 5: nil, 9: nil} {
		if events, count := r.Since(seen); !equal(ids(events), want) || count != 5 {
			t.Errorf("since %d: %v of %d", seen, ids(events), count)
		}
	}
}

func TestAnEventIsWaitedForAndFollowed(t *testing.T) {
	r := NewRecent(3)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	found := make(chan *Event, 1)
	go func() {
		e, _ := r.Wait(ctx, 2)
		found <- e
	}()
	r.Handshake(&Event{ID: 1})
	r.Handshake(&Event{ID: 2})
	if e := <-found; e == nil || e.ID != 2 {
		t.Errorf("%v", e)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if _, err := r.Wait(ended, 3); err == nil {
		t.Error("it waits for ever")
	}
}

// What is remembered with its secrets takes a bounded memory, the oldest goes first, and each is a file of its own.
func TestPacketsAreBounded(t *testing.T) {
	p := NewPackets(8 << 10)
	for id := range uint64(100) {
		data := &trace{traceData: traceData{id: id + 1, start: time.Now(), count: 1}, in: bytes.Repeat([]byte{'x'}, 500)}
		data.segments = []segment{{length: 500}}
		p.add(data, &Event{ID: id + 1, Remote: "192.0.2.1:1", Local: "192.0.2.2:443"})
	}
	total := 0
	for _, file := range p.files {
		total += len(file)
	}
	if total > 8<<10 || total != p.size || len(p.files) != len(p.order) {
		t.Errorf("%d bytes in %d files, counted %d", total, len(p.files), p.size)
	}
	if p.Of(1) != nil || p.Of(100) == nil {
		t.Error("it is not the oldest that went")
	}
	if kinds := blocks(t, p.Of(100)); len(kinds) < 6 || kinds[0] != blockSection {
		t.Errorf("blocks %v", kinds)
	}
}
