package gateway

import (
	"reflect"

	"padlock/config"
	"padlock/internal/jwks"
	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// proof is by what a request was let in.
type proof struct {
	name, hash string              // the user of basic_auth, and the hash of the password
	key        config.APIKey       // that the client has shown
	token      *jwks.Token         // that the client has shown
	rule       *config.JWT         // by which it is good
	asked      *config.ForwardAuth // the service that was asked, and agreed
	copied     message.Fields      // for the target
	spent      []string            // fields whose values were for padlock alone
	cookie     string              // that was for padlock alone; "": none
}

// holds reports whether the rules of a route would let the request in by the same proof. A password is not compared
// anew: its hash must be the same. A service is not asked again: it must be the same, asked for the same.
func (p *proof) holds(s *sites.Site, r *sites.Route) bool {
	if basic := r.BasicAuth(s); basic != nil && (p.name == "" || basic.Users[p.name] != p.hash) {
		return false
	}
	if keys := r.APIKeys(s); keys != nil {
		if now, known := keys.Find(p.key.Hash); !known || p.key.Name != now.Name {
			return false
		}
	}
	if j := r.JWT(s); j != nil && !p.holdsToken(j) {
		return false
	}
	asked := r.ForwardAuth(s)
	return asked == nil || p.asked != nil && reflect.DeepEqual(p.asked.Proof(), asked.Proof())
}

// holdsToken reports whether the token that was shown would be good by a rule: of the same issuer, with its key in the
// file of keys. When it ends does not matter: a reload that changes something else must end nothing.
func (p *proof) holdsToken(j *sites.JWT) bool {
	return p.token != nil && reflect.DeepEqual(p.rule.Proof(), j.Proof()) && p.token.For(j.Audience) && lacking(p.token, j.Claims) == "" &&
		(j.Set == nil || j.Set.Has(p.token.Key))
}

// holdsAny reports whether anything but the client's address has let it in.
func (p *proof) holdsAny() bool {
	return p.name != "" || p.key.Name != "" || p.token != nil || p.asked != nil
}
