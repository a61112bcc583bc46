package certs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"padlock/certs/storage"
)

// Tickets shares the keys of session tickets (RFC 8446 section 4.6.1) through a storage, so that a session resumes on
// any node, and after a restart. A key encrypts tickets for a day, and decrypts them for another.
//
// Each node judges the dates of keys by its own clock, and goes by what it knows besides what is stored: a node whose
// clock is wrong, or somebody who puts older keys back, takes no key away from the others and gives them none to use.
type Tickets struct {
	store storage.Store
	apply func([][32]byte)
	log   *slog.Logger
	now   func() time.Time
	last  string // what was last said of a failure

	known  []storedTicketKey    // in use here
	pause  int                  // looks until missing keys are put back again
	strays bool                 // it has been said that keys are dated in the future
	found  map[string]time.Time // since when stored keys were not usable by this node's clock; zero: they were
}

const (
	ticketKey   = "tickets/keys.json"
	ticketLock  = "tickets"
	ticketLife  = 24 * time.Hour
	ticketLead  = 5 * time.Minute // a new key is known to every node before the first uses it
	ticketSkew  = 5 * time.Minute // between the clocks of nodes; a key that is further ahead is not used
	ticketLook  = time.Minute
	ticketRetry = 5 * time.Second

	// Nodes whose clocks disagree each want their own keys in the storage; they put them back once an hour, and do not
	// fill it.
	ticketPause = 60 // looks
	maxStored   = 12 // keys
)

// storedTicketKey is one key as it is stored.
type storedTicketKey struct {
	From time.Time `json:"from"` // when it is the first to encrypt
	Key  []byte    `json:"key"`
}

// NewTickets hands keys to apply, the one that encrypts first, whenever they change.
func NewTickets(store storage.Store, apply func([][32]byte), log *slog.Logger) *Tickets {
	return &Tickets{store: store, apply: apply, log: log, now: time.Now}
}

// Run keeps the keys fresh until ctx ends. While the storage is away, those that are known are used on.
func (t *Tickets) Run(ctx context.Context) {
	var applied [][32]byte
	for {
		wait := ticketLook
		keys, err := t.keys(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = ticketRetry
			// The same error is logged once, and not every few seconds while the storage is away.
			if t.last != err.Error() {
				t.log.Warn("the keys of session tickets cannot be shared; those that are known are used on", "error", err)
			}
			t.last = err.Error()
		default:
			t.last = ""
			if order := t.order(keys); !slices.Equal(order, applied) {
				t.apply(order)
				applied = order
			}
		}

		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// keys are those that this node knows or finds; the first who finds that a new one is due adds it.
func (t *Tickets) keys(ctx context.Context) ([]storedTicketKey, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	t.pause = max(0, t.pause-1)
	stored, err := t.load(ctx)
	if err != nil {
		return nil, err
	}

	keys, lost := t.merge(stored)
	if t.due(keys) || lost > 0 && t.pause == 0 {
		if keys, err = t.write(ctx); err != nil {
			return nil, err
		}
	}
	t.known = keys
	return keys, nil
}

// write puts what this node knows beside what is stored, with a new key if one is due.
func (t *Tickets) write(ctx context.Context) ([]storedTicketKey, error) {
	if err := t.store.Lock(ctx, ticketLock); err != nil {
		return nil, err
	}
	defer func() { _ = t.store.Unlock(context.WithoutCancel(ctx), ticketLock) }()

	// Read again under the lock: what was read before may have been replaced by another node.
	stored, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	keys, lost := t.merge(stored)
	due := t.due(keys)
	if !due && (lost == 0 || t.pause > 0) {
		// Another node was faster: what it has stored is not due for renewal.
		return keys, nil
	}

	if lost > 0 {
		t.pause = ticketPause
		t.log.Warn("keys of session tickets that this node uses are gone from the storage, and are put back: older ones were put there, or a node's clock is wrong",
			"key", ticketKey, "missing", lost, "clock", t.now().UTC().Format(time.RFC3339))
	}

	if due {
		next := storedTicketKey{From: t.now(), Key: make([]byte, 32)}
		if len(keys) > 0 {
			// The key is published before it is used, so that every node can decrypt with it by then.
			next.From = next.From.Add(ticketLead)
		}
		if _, err := rand.Read(next.Key); err != nil {
			return nil, err
		}
		keys = append(keys, next)
	}

	data, err := json.Marshal(t.keep(keys, stored))
	if err != nil {
		return nil, err
	}

	return keys, t.store.StoreFenced(ctx, ticketLock, ticketKey, data)
}

// keep are the keys to store: this node's, and those that another one's clock may justify. Of those that have
// expired, the ones that this node has used are dropped at once, and others a day later, as it may be this node's
// clock that is wrong.
func (t *Tickets) keep(keys, stored []storedTicketKey) []storedTicketKey {
	all, found := slices.Clone(keys), map[string]time.Time{}
	for _, k := range keys {
		found[string(k.Key)] = time.Time{}
	}

	for _, k := range stored {
		if t.usable(k) {
			continue // among keys
		}

		// The time at which this node first saw the key decides, as the key's own date comes from another clock.
		since, again := t.found[string(k.Key)]
		if !again {
			since = t.now()
		}

		expired := t.now().After(k.From) && t.now().Sub(since) > ticketLife
		if !expired && len(all) < maxStored {
			found[string(k.Key)] = since
			all = append(all, k)
		}
	}

	t.found = found
	return all
}

// merge adds what this node knows to what is stored, and counts what was not there. Only keys that are in use by this
// node's clock are left.
func (t *Tickets) merge(stored []storedTicketKey) (keys []storedTicketKey, lost int) {
	ahead := false
	for _, k := range stored {
		if t.usable(k) {
			keys = append(keys, k)
		} else if t.now().Before(k.From) {
			ahead = true
		}
	}

	// Reported once, until the key is gone.
	if ahead && !t.strays {
		t.log.Warn("a key of session tickets is dated in the future, and is not used: the clock of a node is wrong", "key", ticketKey, "clock", t.now().UTC().Format(time.RFC3339))
	}

	t.strays = ahead

	for _, k := range t.known {
		if t.usable(k) && !contains(keys, k) {
			keys = append(keys, k)
			lost++
		}
	}

	slices.SortStableFunc(keys, func(a, b storedTicketKey) int { return a.From.Compare(b.From) })
	return keys[max(0, len(keys)-maxStored):], lost
}

// usable reports whether a key is one of the last two days, or about to be used.
func (t *Tickets) usable(k storedTicketKey) bool {
	age := t.now().Sub(k.From)
	return age >= -(ticketLead+ticketSkew) && age <= 2*ticketLife
}

func contains(keys []storedTicketKey, k storedTicketKey) bool {
	return slices.ContainsFunc(keys, func(other storedTicketKey) bool { return bytes.Equal(other.Key, k.Key) && other.From.Equal(k.From) })
}

func (t *Tickets) load(ctx context.Context) ([]storedTicketKey, error) {
	data, err := t.store.Load(ctx, ticketKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	if storage.Encrypted(data) {
		return nil, storage.ErrEncrypted
	}

	var keys []storedTicketKey
	sound := json.Unmarshal(data, &keys) == nil && !slices.ContainsFunc(keys, func(k storedTicketKey) bool { return len(k.Key) != 32 })
	if !sound {
		t.log.Warn("the stored keys of session tickets are damaged, and are made anew", "key", ticketKey)
		return nil, nil
	}

	return keys, nil
}

// due reports whether the newest key has had its day, but for the time in which the next one becomes known.
func (t *Tickets) due(keys []storedTicketKey) bool {
	return !slices.ContainsFunc(keys, func(k storedTicketKey) bool { return t.now().Sub(k.From) < ticketLife-ticketLead })
}

// order puts the newest key that is in use first; crypto/tls encrypts with that, and decrypts with all.
func (t *Tickets) order(keys []storedTicketKey) [][32]byte {
	keys = slices.Clone(keys)
	rank := func(k storedTicketKey) time.Time {
		if k.From.After(t.now()) {
			return time.Time{} // not yet
		}
		return k.From
	}

	// A key whose time has not come sorts last: it can decrypt, but does not encrypt yet.
	slices.SortStableFunc(keys, func(a, b storedTicketKey) int { return rank(b).Compare(rank(a)) })

	var out [][32]byte
	for _, k := range keys {
		out = append(out, [32]byte(k.Key))
	}

	return out
}
