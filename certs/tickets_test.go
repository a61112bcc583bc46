package certs

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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
	stored, err := b.load(t.Context())
	if err != nil || len(stored) == 0 || [32]byte(stored[0].Key) == first[0] {
		t.Errorf("a key that is of no use any more is still stored: %v", err)
	}
}

// ticketNode is one of a fleet, with a clock of its own.
type ticketNode struct {
	*Tickets
	clock time.Time
	told  *bytes.Buffer
}

func newTicketNode(t *testing.T, dir string, clock time.Time, key []byte) *ticketNode {
	t.Helper()
	n := &ticketNode{clock: clock, told: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(n.told, nil))
	store, err := storage.Open(t.Context(), dir, storage.Options{Key: key, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	n.Tickets = NewTickets(store, nil, log)
	n.now = func() time.Time { return n.clock }
	return n
}

// look is one turn of Run: the keys to use, the first of which encrypts.
func (n *ticketNode) look(t *testing.T) [][32]byte {
	t.Helper()
	keys, err := n.keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n.order(keys)
}

// A node whose clock is years off has keys of its own. The others change theirs every day, share them, and use none of its; nobody fills
// the storage, or writes to it all the time.
func TestOneNodesClockDoesNotRuleTheFleet(t *testing.T) {
	for what, off := range map[string]time.Duration{"ten years ahead": 10 * 365 * 24 * time.Hour, "an hour ahead": time.Hour, "ten years behind": -10 * 365 * 24 * time.Hour} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir, begin := t.TempDir(), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			a, b, wrong := newTicketNode(t, dir, begin, nil), newTicketNode(t, dir, begin, nil), newTicketNode(t, dir, begin.Add(off), nil)
			var of map[[32]byte]time.Time
			last, changes, writes, before := [32]byte{}, 0, 0, ""
			const step = 10 * time.Minute // of a clock; Run looks more often
			for range 6 * 24 * 6 {
				for _, n := range []*ticketNode{a, wrong, b} {
					n.clock = n.clock.Add(step)
					keys := n.look(t)
					if len(keys) == 0 || len(keys) > maxStored {
						t.Fatalf("%d keys", len(keys))
					}
					of = map[[32]byte]time.Time{}
					for _, k := range n.known {
						of[[32]byte(k.Key)] = k.From
					}
					for _, key := range keys {
						if age := n.clock.Sub(of[key]); age < -ticketLead-ticketSkew || age > 2*ticketLife {
							t.Fatalf("a key of %v is used at %v", of[key], n.clock)
						}
					}
					if age := n.clock.Sub(of[keys[0]]); age > ticketLife+ticketLead {
						t.Fatalf("a key of %v encrypts at %v", of[keys[0]], n.clock)
					}
					if n == b && keys[0] != last {
						last = keys[0]
						changes++
					}
					if n == b && a.order(a.known)[0] != keys[0] {
						t.Fatalf("at %v the nodes encrypt with different keys", n.clock)
					}
					data, err := os.ReadFile(filepath.Join(dir, "tickets", "keys.json"))
					if err != nil || len(data) > 4096 {
						t.Fatalf("%d bytes, %v", len(data), err)
					}
					if string(data) != before {
						before = string(data)
						writes++
					}
				}
			}
			if changes < 6 || changes > 9 {
				t.Errorf("in six days the key changed %d times", changes)
			}
			if writes > 120 { // of 2592 looks
				t.Errorf("the storage was written to %d times", writes)
			}
			if off > 0 && !strings.Contains(a.told.String(), "the clock of a node is wrong") {
				t.Errorf("nobody is told: %s", a.told)
			}
			wrong.clock = a.clock
			if keys := wrong.look(t); keys[0] != a.look(t)[0] {
				t.Error("once its clock is right, the node has other keys")
			}
		})
	}
}

// With a storage_key nobody else chooses the keys of session tickets: what is planted is refused, and nodes do not go back to older ones.
func TestTicketKeysChosenByOthersAreRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "storage")
	key := bytes.Repeat([]byte{7}, 32)
	n := newTicketNode(t, dir, time.Now(), key)
	first := n.look(t)
	file := filepath.Join(dir, "tickets", "keys.json")
	older, err := os.ReadFile(file)
	if err != nil || !storage.Encrypted(older) {
		t.Fatalf("%q, %v", older, err)
	}
	mine := bytes.Repeat([]byte{42}, 32)
	planted, err := json.Marshal([]storedTicketKey{{From: n.clock, Key: mine}})
	if err != nil {
		t.Fatal(err)
	}
	plant := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, who := range []*ticketNode{n, newTicketNode(t, dir, n.clock, key)} { // one that runs, and one that starts
		plant(planted)
		for _, k := range who.look(t) {
			if bytes.Equal(k[:], mine) {
				t.Fatal("a planted key is used")
			}
		}
		if !strings.Contains(who.told.String(), "refused") {
			t.Errorf("this is not told: %s", who.told)
		}
	}
	n.clock = n.clock.Add(ticketLife - ticketLead + time.Second)
	n.look(t)
	n.clock = n.clock.Add(2 * ticketLead)
	second := n.look(t)
	if second[0] == first[0] {
		t.Fatal("no other key after a day")
	}
	n.told.Reset()
	n.pause = 0
	plant(older)
	if again := n.look(t); again[0] != second[0] {
		t.Error("the node went back to an older key")
	}
	if !strings.Contains(n.told.String(), "older ones were put there") {
		t.Errorf("this is not told: %s", n.told)
	}
	if other := newTicketNode(t, dir, n.clock, key); other.look(t)[0] != second[0] {
		t.Error("the younger key was not put back for the other nodes")
	}
}
