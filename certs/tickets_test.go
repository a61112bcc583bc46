package certs

import (
	"log/slog"
	"testing"
	"time"

	"padlock/certs/storage"
)

// Ticket keys are made once for all nodes, take turns after a day, are known everywhere before they are used, and are taken for another day.
func TestTicketKeysRotate(t *testing.T) {
	dir := t.TempDir()
	clock := time.Now()
	node := func() *Tickets {
		store, err := storage.Open(t.Context(), dir, storage.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		n := NewTickets(store, nil, slog.New(slog.DiscardHandler))
		n.now = func() time.Time { return clock }
		return n
	}
	a, b := node(), node()
	look := func(n *Tickets) [][32]byte {
		t.Helper()
		keys, err := n.keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n.order(keys)
	}
	first := look(a)
	if len(first) != 1 || look(b)[0] != first[0] {
		t.Fatal("the nodes do not share a key")
	}
	clock = clock.Add(ticketLife - ticketLead + time.Second)
	second := look(a)
	if len(second) != 2 || second[0] != first[0] {
		t.Errorf("a new key is used before every node can know it")
	}
	next := second[1]
	clock = clock.Add(ticketLead)
	for _, n := range []*Tickets{a, b} {
		if keys := look(n); len(keys) != 2 || keys[0] != next || keys[1] != first[0] {
			t.Errorf("after a day: %d keys, and the new one is not the first", len(keys))
		}
	}
	clock = clock.Add(2 * ticketLife)
	for _, key := range look(b) {
		if key == first[0] {
			t.Error("a key is taken for longer than two days")
		}
	}
}
