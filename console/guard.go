package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"padlock/config"
)

var discard = log.New(io.Discard, "", 0)

// Guard says who may ask. The zero value is for a socket that only padlock's own user can open.
type Guard struct {
	// Tcp: the name that is asked for has to be one of this endpoint's, so that no web page that rebinds its name reads
	// anything.
	Network string
	Hosts   []string // canonical names it has; addresses and localhost go without saying
	Remote  bool     // it can be reached from other machines
	Token   string   // that clients show; "": none is needed
}

// policy allows the console's own style sheet and script, pictures that stand in the page, and nothing from elsewhere.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

func (g Guard) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")

		switch {
		// Without this check, a web page could point its own name at 127.0.0.1 and read the console (DNS
		// rebinding).
		case g.Network != "unix" && !g.named(r.Host):
			http.Error(w, "The admin endpoint is not known by this name: "+g.remedy(), http.StatusForbidden)
		// The browser sends its credentials for the console with requests of any page.
		case foreign(r):
			http.Error(w, "The admin endpoint does not answer to other sites' pages.", http.StatusForbidden)
		case !g.shown(r):
			h.Set("WWW-Authenticate", `Basic realm="padlock", charset="UTF-8"`)
			http.Error(w, "The admin endpoint asks for its token: as a password with any name, or as Authorization: Bearer TOKEN.", http.StatusUnauthorized)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// personal reports whether all who may ask are those who run padlock.
func (g Guard) personal() bool { return g.Network != "tcp" || g.Remote || g.Token != "" }

func (g Guard) remedy() string {
	if g.Remote {
		return "ask by its address, or list the name under admin.hosts."
	}
	return "ask by localhost or by its address, from this machine."
}

// named reports whether a Host is this endpoint's own. An address cannot be rebound to another.
func (g Guard) named(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return g.Remote || addr.IsLoopback()
	}
	name, ok := config.CanonicalHost(host)
	return ok && (name == "localhost" || slices.Contains(g.Hosts, name))
}

// foreign reports whether a page of another origin asks. A link that somebody follows to a page of ours is no such
// thing.
func foreign(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		return err != nil || u.Host != r.Host
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document"
}

// shown reports whether the token was shown, in a time that does not depend on it.
func (g Guard) shown(r *http.Request) bool {
	if g.Token == "" {
		return true
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, token, _ = r.BasicAuth()
	}
	// Hashes have the same length, which ConstantTimeCompare needs to give nothing away.
	want, got := sha256.Sum256([]byte(g.Token)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}
