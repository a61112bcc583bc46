package sites

import (
	"slices"
	"time"

	"padlock/proxy/message"
)

// Judge reports whether a connection passes all policies, and until when; without any, it does not. verified says that
// its client has shown a good certificate.
func Judge(facts *message.Conn, verified bool, policies []*Policy, now time.Time) (until time.Time, passes bool) {
	given := facts.TLS.PeerCertificates
	for _, policy := range policies {
		auth := policy.Auth
		switch {
		case auth == nil, auth.mode == "request" && !verified:
			// Nobody is refused under this policy, and the targets were not told about a certificate.
			continue
		case len(given) == 0 && auth.mode == "require":
			return until, false
		case len(given) == 0:
			continue
		}

		holds, err := auth.again(facts)
		if err != nil || now.After(holds) {
			return until, false
		}
		if until.IsZero() || holds.Before(until) {
			until = holds
		}
	}
	return until, len(policies) > 0
}

// Still reports whether a connection that was made under another policy would have been let in by this one.
func (p *Policy) Still(facts *message.Conn) bool {
	if p == facts.Policy || p.Auth == nil || facts.TLS == nil {
		return true
	}
	_, passes := Judge(facts, !facts.Until.IsZero(), []*Policy{p}, time.Now())
	return passes
}

// again judges a certificate that another policy has let in. Where both trust the same CAs, its chains are known.
func (a *ClientAuth) again(facts *message.Conn) (until time.Time, err error) {
	made, _ := facts.Policy.(*Policy)
	if chains := facts.TLS.VerifiedChains; len(chains) > 0 && a.roots != nil && made.Auth.roots.Equal(a.roots) {
		return a.judge(chains)
	}
	return a.verify(facts.TLS.PeerCertificates)
}

// Has reports whether a policy is in force.
func (s *Snapshot) Has(policy *Policy) bool {
	for _, p := range s.policies {
		if p == policy {
			return true
		}
	}
	return false
}

// Successors are, for each policy, those that its hosts have in another snapshot; none of hosts that are gone.
func (s *Snapshot) Successors(built *Snapshot) map[*Policy][]*Policy {
	all := map[*Policy][]*Policy{}
	for listener, t := range s.hosts {
		after := built.Hosts(listener)
		add := func(old, now *Site) {
			if old == nil || old.Policy.Auth == nil {
				return
			}
			list := all[old.Policy]
			if now != nil && !slices.Contains(list, now.Policy) {
				list = append(list, now.Policy)
			}
			all[old.Policy] = list
		}

		for name, old := range t.exact {
			add(old, after.Named(name))
		}

		for suffix, old := range t.wildcard {
			add(old, after.Named("*."+suffix))
		}

		add(t.fallback, after.fallback)
		add(t.unnamed, after.Asked("", ""))
	}
	return all
}
