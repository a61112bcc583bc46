package certs

import (
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

// Tickets shares the keys of session tickets (RFC 8446 section 4.6.1) through a storage, so that a session resumes on any node, and after
// a restart. A key encrypts tickets for a day, and decrypts them for another.
type Tickets struct {
	store storage.Store
	apply func([][32]byte)
	log   *slog.Logger
	now   func() time.Time
	last  string // what was last said of a failure
}

const (
	ticketKey   = "tickets/keys.json"
	ticketLock  = "tickets"
	ticketLife  = 24 * time.Hour
	ticketLead  = 5 * time.Minute // a new key is known to every node before the first uses it
	ticketLook  = time.Minute
	ticketRetry = 5 * time.Second
)

// sealer is one key as it is stored.
type sealer struct {
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

// keys loads what is stored; the first who finds that a new key is due adds it.
func (t *Tickets) keys(ctx context.Context) ([]sealer, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	keys, err := t.load(ctx)
	if err != nil || !t.due(keys) {
		return keys, err
	}
	if err := t.store.Lock(ctx, ticketLock); err != nil {
		return nil, err
	}
	defer func() { _ = t.store.Unlock(context.WithoutCancel(ctx), ticketLock) }()
	if keys, err = t.load(ctx); err != nil || !t.due(keys) {
		return keys, err
	}
	next := sealer{From: t.now(), Key: make([]byte, 32)}
	if len(keys) > 0 {
		next.From = next.From.Add(ticketLead)
	}
	if _, err := rand.Read(next.Key); err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k sealer) bool { return t.now().Sub(k.From) > 2*ticketLife })
	keys = append(keys, next)
	data, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	return keys, t.store.StoreFenced(ctx, ticketLock, ticketKey, data)
}

func (t *Tickets) load(ctx context.Context) ([]sealer, error) {
	data, err := t.store.Load(ctx, ticketKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if storage.Sealed(data) {
		return nil, storage.ErrSealed
	}
	var keys []sealer
	sound := json.Unmarshal(data, &keys) == nil && !slices.ContainsFunc(keys, func(k sealer) bool { return len(k.Key) != 32 })
	if !sound {
		t.log.Warn("the stored keys of session tickets are damaged, and are made anew", "key", ticketKey)
		return nil, nil
	}
	return keys, nil
}

func (t *Tickets) due(keys []sealer) bool {
	return !slices.ContainsFunc(keys, func(k sealer) bool { return t.now().Sub(k.From) < ticketLife-ticketLead })
}

// order puts the newest key that is in use first; crypto/tls encrypts with that, and decrypts with all.
func (t *Tickets) order(keys []sealer) [][32]byte {
	keys = slices.Clone(keys)
	rank := func(k sealer) time.Time {
		if k.From.After(t.now()) {
			return time.Time{} // not yet
		}
		return k.From
	}
	slices.SortStableFunc(keys, func(a, b sealer) int { return rank(b).Compare(rank(a)) })
	var out [][32]byte
	for _, k := range keys {
		if t.now().Sub(k.From) <= 2*ticketLife {
			out = append(out, [32]byte(k.Key))
		}
	}
	return out
}
