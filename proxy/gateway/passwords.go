package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"padlock/internal/fair"
	"padlock/internal/phc"
	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// admit refuses clients that the site's lists or the route's do not let in.
func admit(_ *message.Context, x *Exchange) error {
	if !x.site.Access.Admits(x.addr) || !x.route.Access.Admits(x.addr) {
		return errClosed
	}
	return nil
}

// readable is for what a client would show to everybody on the way.
func readable(what string) *StatusError {
	return status(403, "This needs "+what+", which is asked for over HTTPS only")
}

var errClosed = status(403, "This is not open to your address")

// authenticate finds out who a client is, and refuses whoever does not prove to be somebody.
func (h *Gateway) authenticate(ctx *message.Context, x *Exchange) error {
	if !x.secure() {
		return readable("a password")
	}

	basic := x.route.BasicAuth(x.site)
	name, err := h.passwords.user(ctx, basic, x.addr, x.request.Fields)
	switch {
	case errors.Is(err, fair.ErrSource):
		return busy(429, "Too many passwords from your address wait to be checked")
	case errors.Is(err, fair.ErrAll):
		return busy(503, "Too many passwords wait to be checked")
	case err != nil:
		return errGone
	case name == "":
		return &StatusError{Status: 401, Text: "A name and a password are needed", Fields: message.Fields{{Name: "WWW-Authenticate", Value: basic.Challenge}}}
	}

	// The password was meant for padlock.
	x.user, x.proof.name, x.proof.hash, x.proof.spent = name, name, basic.Users[name], append(x.proof.spent, "Authorization")
	return nil
}

// passwords checks names and passwords of all sites. A check is slow on purpose, so sources take turns, and only some
// of the processor is theirs. What was right is remembered, over reloads too. It is safe for use from many goroutines.
type passwords struct {
	turns  *fair.Turns
	large  chan struct{} // has one of each check that takes much memory
	secret [32]byte      // nobody can tell which passwords would be remembered under which key

	mu    sync.Mutex
	right map[account]mac
	under map[guess]*verdict // checks that are under way
}

// account is a name with its hash: one that changes is another.
type account struct{ name, hash string }

type mac [sha256.Size]byte

// guess is somebody's try. The same password of the same source is checked once at a time, as pages ask for many things
// at once.
type guess struct {
	source netip.Prefix
	mac    mac
}

type verdict struct {
	done  chan struct{} // closed when the rest is there
	right bool
	err   error
}

const (
	maxCredentials = 1024 // bytes, encoded
	guessesWait    = 8    // of one source
	guessesInAll   = 256
	largeAtOnce    = 4 // of Argon2id's, which take 64 MiB each at most
)

func newPasswords() *passwords {
	atOnce := max(1, runtime.GOMAXPROCS(0)/2)
	p := &passwords{
		turns: fair.NewTurns(fair.Limits{AtOnce: atOnce, Each: max(1, atOnce-1), PerSource: guessesWait, Waiting: guessesInAll}),
		right: map[account]mac{}, under: map[guess]*verdict{}, large: make(chan struct{}, largeAtOnce),
	}
	_, _ = rand.Read(p.secret[:])
	return p
}

// user is the name that a request proves to have, or "". An error says that too many wait: fair.ErrSource, fair.ErrAll,
// or ctx's.
func (p *passwords) user(ctx context.Context, basic *sites.BasicAuth, client netip.Addr, fields message.Fields) (string, error) {
	value, _ := fields.Get("Authorization")
	scheme, encoded, _ := strings.Cut(value, " ")
	// bcrypt looks at 72 bytes only, and nobody types more, so longer credentials would only cost time.
	if !message.Is(scheme, "Basic") || len(encoded) > maxCredentials {
		return "", nil
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.Trim(encoded, " "))
	if err != nil {
		return "", nil
	}
	name, password, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return "", nil
	}

	hash, known := basic.Users[name]
	if !known {
		// A name that does not exist must take as long as one that does, or names could be found out by the clock.
		hash = p.decoy(basic, name)
	}
	who := account{name, hash}
	key := p.mac(name, hash, password)
	// Browsers send the password with every request, and a check takes a tenth of a second.
	if known && p.remembers(who, key) {
		return name, nil
	}
	right, err := p.check(ctx, guess{fair.Source(client), key}, hash, password)
	if err != nil || !right || !known {
		return "", err
	}

	p.remember(who, key)
	return name, nil
}

// decoy is whose hash stands in for a name that does not exist: always the same one's, so that it takes as long as some
// name that does.
func (p *passwords) decoy(basic *sites.BasicAuth, name string) string {
	if len(basic.Hashes) == 0 {
		return ""
	}
	sum := p.mac(name)
	return basic.Hashes[binary.BigEndian.Uint64(sum[:])%uint64(len(basic.Hashes))]
}

func (p *passwords) mac(parts ...string) (sum mac) {
	h := hmac.New(sha256.New, p.secret[:])
	for _, part := range parts {
		// With its length in front, no part can run into the next one.
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		_, _ = h.Write([]byte(part))
	}
	h.Sum(sum[:0])
	return sum
}

func (p *passwords) remembers(who account, key mac) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, ok := p.right[who]
	return ok && hmac.Equal(last[:], key[:])
}

// remember keeps one password for each account, so that no client can push another's out.
func (p *passwords) remember(who account, key mac) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.right[who] = key
}

// keep forgets the accounts that a snapshot does not have any more.
func (p *passwords) keep(s *sites.Snapshot) {
	current := map[account]bool{}
	for _, site := range s.Sites {
		for _, route := range site.Routes {
			if basic := route.BasicAuth(site); basic != nil {
				for name, hash := range basic.Users {
					current[account{name, hash}] = true
				}
			}
		}
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.right, func(who account, _ mac) bool { return !current[who] })
}

// check compares a password with a hash when it is the source's turn, or waits for a check of the same.
func (p *passwords) check(ctx context.Context, g guess, hash, password string) (bool, error) {
	for {
		p.mu.Lock()
		v, running := p.under[g]
		if !running {
			v = &verdict{done: make(chan struct{})}
			p.under[g] = v
		}

		p.mu.Unlock()
		if !running {
			p.decide(ctx, g, v, hash, password)
			return v.right, v.err
		}

		select {
		case <-v.done:
		case <-ctx.Done():
			return false, ctx.Err()
		}

		// After a cancellation nothing was checked: the client that should have checked has left.
		if !errors.Is(v.err, context.Canceled) {
			return v.right, v.err
		}
	}
}

func (p *passwords) decide(ctx context.Context, g guess, v *verdict, hash, password string) {
	defer func() {
		p.mu.Lock()
		// Forgotten before the others wake, so that none of them finds this check again.
		delete(p.under, g)
		p.mu.Unlock()
		close(v.done)
	}()

	done, err := p.turns.Take(ctx, g.source)
	if err != nil {
		v.err = err
		return
	}
	defer done()
	v.right, v.err = p.compare(ctx, hash, password)
}

// compare compares a password with a hash of either kind.
func (p *passwords) compare(ctx context.Context, hash, password string) (bool, error) {
	if !strings.HasPrefix(hash, phc.Prefix) {
		return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil, nil
	}

	// However many processors there are, only some of the memory is for this.
	select {
	case p.large <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-p.large }()
	parsed, err := phc.Parse(hash)
	return err == nil && parsed.Matches(password), nil
}
