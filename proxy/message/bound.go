package message

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// connectionSchemes authenticate a connection, and with it every request that follows, instead of the one request that
// carries the credentials (RFC 4559 section 6 describes Negotiate; NTLM and CredSSP do the same). Whoever sends another
// client's request on such a connection sends it as the user who authenticated.
var connectionSchemes = NewNames("NTLM", "Negotiate", "Kerberos", "CredSSP", "Nego2")

// ntlmToken begins every NTLM message in base64, with Negotiate too: it takes several requests on one connection.
const ntlmToken = "TlRMTVNTUA"

// AuthenticatesConnection reports whether a request's credentials, or a response's challenges, are of a scheme that
// authenticates the connection.
func (f Fields) AuthenticatesConnection() bool {
	for i := range f {
		switch name := f[i].Name; {
		case Is(name, "Authorization"):
			if scheme, _ := splitCredentials(f[i].Value); connectionSchemes.Has(scheme) {
				return true
			}
		case Is(name, "WWW-Authenticate"):
			// A quoted comma that is taken for a separator costs a connection, not a secret.
			for challenge := range strings.SplitSeq(f[i].Value, ",") {
				if scheme, _ := splitCredentials(challenge); connectionSchemes.Has(scheme) {
					return true
				}
			}
		case Is(name, "Persistent-Auth"):
			// IIS adds the field to responses on a connection that it has authenticated.
			return true
		}
	}
	return false
}

// NeedsOneConnection reports whether a request's credentials cannot be understood without those that came before on the
// same connection.
func (f Fields) NeedsOneConnection() bool {
	for i := range f {
		if !Is(f[i].Name, "Authorization") {
			continue
		}
		scheme, token := splitCredentials(f[i].Value)
		if Is(scheme, "NTLM") || Is(scheme, "CredSSP") || connectionSchemes.Has(scheme) && strings.HasPrefix(token, ntlmToken) {
			return true
		}
	}
	return false
}

// ContinuesAuthentication reports whether a challenge is one step of several, for which the next request must come on
// the same connection.
func (f Fields) ContinuesAuthentication() bool {
	for i := range f {
		if !Is(f[i].Name, "WWW-Authenticate") {
			continue
		}
		for challenge := range strings.SplitSeq(f[i].Value, ",") {
			if scheme, token := splitCredentials(challenge); token != "" && connectionSchemes.Has(scheme) {
				return true
			}
		}
	}
	return false
}

// splitCredentials is RFC 9110 section 11.4.
func splitCredentials(value string) (scheme, rest string) {
	value = strings.Trim(value, " \t")
	at := strings.IndexAny(value, " \t")
	if at < 0 {
		return value, ""
	}
	return value[:at], strings.TrimLeft(value[at:], " \t")
}

// Holder keeps something for clients' connections, such as a connection to a target that the client has authenticated.
type Holder interface {
	// Unbind is called once, after the connection has ended. It waits for nothing.
	Unbind(c *Conn)
}

// bindings are the holders that keep something for a connection.
type bindings struct {
	any     atomic.Bool
	mu      sync.Mutex
	holders []Holder
	ended   bool
}

// Bind has a holder hear of the connection's end. It reports false where the connection has ended already.
func (c *Conn) Bind(h Holder) bool {
	b := &c.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return false
	}
	if !slices.Contains(b.holders, h) {
		b.holders = append(b.holders, h)
	}
	b.any.Store(true)
	return true
}

// Bound reports whether something has been kept for this connection.
func (c *Conn) Bound() bool { return c.bound.any.Load() }

// End lets go of what is kept for the connection. The front calls it when the connection has ended.
func (c *Conn) End() {
	b := &c.bound
	b.mu.Lock()
	holders := b.holders
	b.holders, b.ended = nil, true
	// Holders are called without the lock, as they may look at the connection.
	b.mu.Unlock()
	for _, h := range holders {
		h.Unbind(c)
	}
}
