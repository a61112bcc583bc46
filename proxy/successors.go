package proxy

import (
	"slices"
	"time"

	"padlock/proxy/message"
)

// judge reports whether a connection passes all policies, and until when; without any, it does not. verified says that its client has shown a good
// certificate.
func judge(facts *message.Conn, verified bool, policies []*tlsPolicy, now time.Time) (until time.Time, passes bool) {
	given := facts.TLS.PeerCertificates
	for _, policy := range policies {
		auth := policy.auth
		switch {
		case auth == nil, auth.mode == "request" && !verified: // nobody is refused, and targets were told of nothing good
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

// still reports whether a connection that was made under another policy would have been let in by this one.
func (p *tlsPolicy) still(facts *message.Conn) bool {
	if p == facts.Policy || p.auth == nil || facts.TLS == nil {
		return true
	}
	_, passes := judge(facts, !facts.Until.IsZero(), []*tlsPolicy{p}, time.Now())
	return passes
}

// again judges a certificate that another policy has let in. Where both trust the same CAs, its chains are known.
func (a *clientAuth) again(facts *message.Conn) (until time.Time, err error) {
	made, _ := facts.Policy.(*tlsPolicy)
	if chains := facts.TLS.VerifiedChains; len(chains) > 0 && a.roots != nil && made.auth.roots.Equal(a.roots) {
		return a.judge(chains)
	}
	return a.verify(facts.TLS.PeerCertificates)
}

// has reports whether a policy is in force.
func (s *snapshot) has(policy *tlsPolicy) bool {
	for _, p := range s.policies {
		if p == policy {
			return true
		}
	}
	return false
}

// successors are, for each policy, those that its hosts have in another state; none of hosts that are gone.
func (s *snapshot) successors(built *snapshot) map[*tlsPolicy][]*tlsPolicy {
	all := map[*tlsPolicy][]*tlsPolicy{}
	for listener, t := range s.tables {
		after := built.table(listener)
		add := func(old, now *site) {
			if old == nil || old.policy.auth == nil {
				return
			}
			list := all[old.policy]
			if now != nil && !slices.Contains(list, now.policy) {
				list = append(list, now.policy)
			}
			all[old.policy] = list
		}
		for name, old := range t.exact {
			add(old, after.named(name))
		}
		for suffix, old := range t.wildcard {
			add(old, after.named("*."+suffix))
		}
		add(t.fallback, after.fallback)
		add(t.unnamed, after.asked("", ""))
	}
	return all
}
