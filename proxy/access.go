package proxy

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"padlock/config"
	"padlock/proxy/message"
)

// access says who may come.
type access struct {
	allow, deny []config.Network
	basic       *basicAuth // nil: nobody is asked
}

func newAccess(c *config.Access) access {
	a := access{allow: c.Allow, deny: c.Deny}
	if c.BasicAuth != nil {
		a.basic = newBasicAuth(c.BasicAuth)
	}
	return a
}

// admits reports whether a client address may come.
func (a *access) admits(client netip.Addr) bool {
	if len(a.allow) == 0 && len(a.deny) == 0 {
		return true
	}
	if !client.IsValid() || contains(a.deny, client) {
		return false
	}
	return len(a.allow) == 0 || contains(a.allow, client)
}

func contains(networks []config.Network, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// basicAuth knows names and bcrypt hashes. What was right once is remembered, as bcrypt is slow on purpose.
type basicAuth struct {
	challenge string
	users     map[string]string
	dummy     []byte // hash that is compared with for names that do not exist, so that they take as long

	secret [32]byte
	mu     sync.Mutex
	right  map[[32]byte]string
	turns  chan struct{} // comparisons at once, so that guesses do not take all of the processor
}

const (
	maxRemembered = 1024
	maxGuesses    = 2
)

func newBasicAuth(c *config.BasicAuth) *basicAuth {
	b := &basicAuth{
		challenge: `Basic realm="` + c.Realm + `", charset="UTF-8"`, users: c.Users, right: map[[32]byte]string{}, turns: make(chan struct{}, maxGuesses),
	}
	_, _ = rand.Read(b.secret[:])
	for _, hash := range c.Users {
		b.dummy = []byte(hash)
		break
	}
	return b
}

// user is the name that a request proves to have, or "".
func (b *basicAuth) user(ctx *message.Context, fields message.Fields) string {
	value, _ := fields.Get("Authorization")
	scheme, encoded, _ := strings.Cut(value, " ")
	if !message.Is(scheme, "Basic") || len(encoded) > 1024 {
		return ""
	}
	key := sha256.Sum256(append(b.secret[:], encoded...))
	b.mu.Lock()
	name := b.right[key]
	b.mu.Unlock()
	if name != "" {
		return name
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.Trim(encoded, " "))
	if err != nil {
		return ""
	}
	name, password, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return ""
	}
	select {
	case b.turns <- struct{}{}:
	case <-ctx.Done():
		return ""
	}
	defer func() { <-b.turns }()
	hash, known := b.users[name]
	if !known {
		_ = bcrypt.CompareHashAndPassword(b.dummy, []byte(password))
		return ""
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.right) >= maxRemembered {
		clear(b.right)
	}
	b.right[key] = name
	return name
}
