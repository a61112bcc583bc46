package upstream

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"

	"padlock/proxy/message"
)

// stickyKey is what makes of a target's name the value of a sticky cookie. Without it the cookie would be a hash of an
// address that anybody can guess and compare, and anybody could make one.
type stickyKey struct {
	given atomic.Pointer[[32]byte]
}

// SetStickyKey makes cookies by a key that all nodes share, and that is the same after a restart, instead of one of
// this process alone. It may be called at any time.
func (t *Targets) SetStickyKey(key [32]byte) { t.sticky.given.Store(&key) }

// get makes a key where none was given: clients keep their targets for as long as this process runs.
func (k *stickyKey) get() *[32]byte {
	if key := k.given.Load(); key != nil {
		return key
	}
	var own [32]byte
	_, _ = rand.Read(own[:]) // never fails
	// A key that was given meanwhile stays.
	k.given.CompareAndSwap(nil, &own)
	return k.given.Load()
}

// Sign is a code that stands for a text, made by the key of sticky cookies.
func (t *Targets) Sign(text string) string {
	mac := hmac.New(sha256.New, t.sticky.get()[:])
	mac.Write([]byte("signed\x00" + text))
	return hex.EncodeToString(mac.Sum(nil))[:stickyLength]
}

// stickyToken is a target's with one key.
type stickyToken struct {
	key   *[32]byte
	value string
}

const stickyLength = 32

// token stands for the target in sticky cookies, without showing its address.
func (t *Target) token(key *[32]byte) string {
	if made := t.sticky.Load(); made != nil && made.key == key {
		return made.value
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("sticky cookie\x00" + t.name))
	made := &stickyToken{key, hex.EncodeToString(mac.Sum(nil))[:stickyLength]}
	t.sticky.Store(made)
	return made.value
}

// stuck is the target that a client's cookie names, if it can take the request.
func (g *Group) stuck(s *set, r *message.Request) *member {
	if g.o.Sticky == "" {
		return nil
	}

	value, ok := r.Fields.Cookie(g.o.Sticky)
	if !ok || len(value) != stickyLength {
		return nil
	}

	key := g.targets.sticky.get()
	for i := range s.members {
		m := &s.members[i]
		if value == m.target.token(key) {
			return m
		}
	}

	return nil
}

// stick gives a client that is not at its target a cookie.
func (g *Group) stick(r *message.Request, a *Attempt) {
	a.Cookie = ""
	if g.o.Sticky == "" {
		return
	}
	token := a.member.target.token(g.targets.sticky.get())
	if value, _ := r.Fields.Cookie(g.o.Sticky); value != token {
		a.Cookie = g.o.Sticky + "=" + token + "; Path=/; Secure; HttpOnly; SameSite=Lax"
	}
}
