package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// userFields are those by which the usual services name the user.
var userFields = []string{"Remote-User", "X-Auth-Request-User", "X-Authentik-Username", "X-Forwarded-User", "X-Remote-User"}

// Proof is what of the rule decides which service has agreed, and to what. How often it is tried, how long it may take,
// and what targets learn of the client are no part of it.
func (f *ForwardAuth) Proof() ForwardAuth {
	p := *f
	p.Copy, p.User, p.Timeout = nil, "", 0
	p.Balance, p.HashBy, p.Health, p.PassiveHealth, p.Circuit, p.Retry = "", "", nil, PassiveHealth{}, Circuit{}, Retry{}
	p.Timeouts, p.KeepAlive = UpstreamTimeouts{}, KeepAlive{}
	p.To = slices.Clone(f.To)
	for i := range p.To {
		p.To[i].Weight = 0
	}
	return p
}

func (v *validator) forwardAuth(path string, f *ForwardAuth) {
	if len(f.To) == 0 {
		v.fail(path+".to", "is missing: the service that padlock asks, such as http://127.0.0.1:9091")
	}
	v.upstream(path, &f.Upstream, []string{"http", "https", "h2c"})
	if f.Sticky != "" {
		v.fail(path+".sticky", "goes with targets of routes only: the client has no cookie for the service")
	}

	if f.URI == "" {
		v.fail(path+".uri", "is missing: the path that the service answers at, such as /oauth2/auth, /api/authz/forward-auth or /outpost.goauthentik.io/auth/caddy")
	} else if !checkable(f.URI) {
		v.fail(path+".uri", "%q is not a path such as /oauth2/auth", f.URI)
	}

	if standard(&f.Timeout, 10*time.Second); f.Timeout > 10*time.Minute {
		v.fail(path+".timeout", "%v is more than 10m: each request waits for the service", f.Timeout)
	}
	v.copied(path, f)
}

// copied checks the fields that are taken from the service's answer.
func (v *validator) copied(path string, f *ForwardAuth) {
	for i, name := range f.Copy {
		at := fmt.Sprintf("%s.copy[%d]", path, i)
		v.fieldName(at, name)
		if slices.ContainsFunc(f.Copy[:i], func(other string) bool { return strings.EqualFold(other, name) }) {
			v.fail(at, "%s is given twice", name)
		}
	}

	copies := func(user string) bool {
		return slices.ContainsFunc(f.Copy, func(name string) bool { return strings.EqualFold(name, user) })
	}
	if f.User == "" {
		if i := slices.IndexFunc(userFields, copies); i >= 0 {
			f.User = userFields[i]
		}
	} else if !copies(f.User) {
		// What is not copied may still stand in the client's request, under the same name.
		v.fail(path+".user", "needs copy: [%s]", f.User)
	}
}
