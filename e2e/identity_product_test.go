//go:build e2e

package e2e

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
)

// idFactor is something in which requests differ from each other. A combo has a member of each.
type idFactor int

const (
	idFront idFactor = iota
	idTarget
	idGroup
	idRewrite
	idRules
	idBuffer
	idAuth
	idTells
	idLimit
	idCoding
	idCORS
	idWeb
	idMirror
	idChosen
	idDoes
	idSize
	idStays
	idInspect // of a site, and so not of a route
	idRoom    // of a life, and not of a request
	idFactors

	idLastOfRoute = idChosen // the factors from idTarget to this one make a route
)

var idMembers = [idFactors][]string{
	idFront:   {"HTTP/1.1", "HTTP/2", "HTTP/3", "plain HTTP"},
	idTarget:  {"http", "https", "h2c", "unix", "h2", "files"},
	idGroup:   {"one", "sticky", "dying", "sticky dying"},
	idRewrite: {"plain", "strip_prefix", "replace_prefix"},
	idRules:   {"no rules", "rules"},
	idBuffer:  {"streamed", "request buffer", "response buffer", "both buffers"},
	idAuth:    {"open", "basic_auth", "forward_auth", "jwt", "api_keys"},
	idTells:   {"tells nothing", "handshake_header", "forwarded", "host", "rewrite_urls"},
	idLimit:   {"no limit", "counted", "limited"},
	idCoding:  {"no coding", "compress"},
	idCORS:    {"no cors", "cors"},
	idWeb:     {"no grpc_web", "grpc_web"},
	idMirror:  {"no mirror", "mirror"},
	idChosen:  {"by path", "by header", "by cookie", "by query", "by match", "by percent"},
	idDoes:    {"get", "head", "post", "trailers", "expect", "early answer", "103", "100", "websocket", "grpc", "unread expect", "error", "preflight", "gRPC-Web"},
	idSize:    {"small", "large", "beyond windows"},
	idStays:   {"stays", "leaves"},
	idInspect: {"not inspected", "inspected"},
	idRoom:    {"room for buffers", "little room"},
}

// The members that the harness asks for.
const (
	front1, front2, front3, frontPlain = 0, 1, 2, 3

	targetH2C, targetUnix, targetH2, targetFiles = 2, 3, 4, 5

	doesGet, doesHead, doesPost, doesTrailers, doesExpect = 0, 1, 2, 3, 4
	doesEarly, does103, does100, doesSocket, doesGRPC     = 5, 6, 7, 8, 9
	doesUnread, doesError, doesPreflight, doesWeb         = 10, 11, 12, 13

	authBasic, authForward, authToken, authKey = 1, 2, 3, 4

	tellsHandshake, tellsForwarded, tellsHost, tellsURLs = 1, 2, 3, 4

	limitCounts, limitRefuses = 1, 2

	chosenPath, chosenHeader, chosenCookie, chosenQuery, chosenMatch, chosenPercent = 0, 1, 2, 3, 4, 5

	sizeBeyond = 2
)

type idCombo [idFactors]uint8

func (c idCombo) String() string {
	var words []string
	for f, member := range c {
		words = append(words, idMembers[f][member])
	}
	return strings.Join(words, ", ")
}

func (c idCombo) does(member uint8) bool  { return c[idDoes] == member }
func (c idCombo) sticky() bool            { return c[idGroup]&1 != 0 }
func (c idCombo) dying() bool             { return c[idGroup] >= 2 }
func (c idCombo) rules() bool             { return c[idRules] == 1 }
func (c idCombo) auth(member uint8) bool  { return c[idAuth] == member }
func (c idCombo) leaves() bool            { return c[idStays] == 1 }
func (c idCombo) large() bool             { return c[idSize] == 1 }
func (c idCombo) beyond() bool            { return c[idSize] == sizeBeyond }
func (c idCombo) files() bool             { return c[idTarget] == targetFiles }
func (c idCombo) plain() bool             { return c[idFront] == frontPlain }
func (c idCombo) one() bool               { return c[idFront] == front1 || c.plain() }
func (c idCombo) compress() bool          { return c[idCoding] == 1 }
func (c idCombo) cors() bool              { return c[idCORS] == 1 }
func (c idCombo) mirror() bool            { return c[idMirror] == 1 && !c.files() }
func (c idCombo) inspected() bool         { return c[idInspect] == 1 }
func (c idCombo) limit(member uint8) bool { return c[idLimit] == member }
func (c idCombo) waits() bool             { return c.does(doesExpect) || c.does(doesUnread) }

// route numbers the configuration of a route that the combo needs.
func (c idCombo) route() int {
	n := 0
	for f := idTarget; f <= idLastOfRoute; f++ {
		n = n*len(idMembers[f]) + int(c[f])
	}
	return n
}

// site numbers the site that has the combo's route.
func (c idCombo) site() (n int) {
	if c.plain() {
		n |= 1
	}
	if c.inspected() {
		n |= 2
	}
	return n
}

// draw chooses what is no member of its own: one of n, the same for all requests of a route.
func (c idCombo) draw(what string, n int) int {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, what, c.route())
	return int(h.Sum32()>>8) % n
}

// routeOf is a combo with that route, and the first member of everything else.
func routeOf(n int) (c idCombo) {
	for f := idLastOfRoute; f >= idTarget; f-- {
		c[f] = uint8(n % len(idMembers[f]))
		n /= len(idMembers[f])
	}
	return c
}

// idProduct is the part of the product that a run looks at.
type idProduct struct{ members [idFactors][]uint8 }

// newProduct reads -identity-only: members separated by semicolons. Where none of a factor's is named, all are meant.
func newProduct(only string) (p idProduct, err error) {
	var named []string
	for name := range strings.SplitSeq(only, ";") {
		if name = strings.TrimSpace(name); name != "" {
			named = append(named, name)
		}
	}
	used := 0
	for f, names := range idMembers {
		for i, name := range names {
			if slices.Contains(named, name) {
				p.members[f] = append(p.members[f], uint8(i))
				used++
			}
		}
		if p.members[f] == nil {
			for i := range names {
				p.members[f] = append(p.members[f], uint8(i))
			}
		}
	}
	if used != len(named) {
		err = fmt.Errorf("-identity-only=%q: the members are %q", only, idMembers)
	}
	return p, err
}

// random is any combo. What takes the most time comes less often.
func (p *idProduct) random(rng *rand.Rand) (c idCombo) {
	for f, members := range p.members {
		c[f] = members[rng.IntN(len(members))]
		switch {
		case len(members) == 1:
		case f == int(idSize) && c[f] == sizeBeyond && rng.IntN(60) > 0, f == int(idStays) && rng.IntN(10) > 0, f == int(idInspect) && rng.IntN(3) > 0, f == int(idSize) && rng.IntN(3) > 0:
			c[f] = members[0]
		}
	}
	return c
}

// whole is the part of which every combo is asked for where that is wanted. What is left out is a matter of a life, takes the most time, has no
// use for most of the rest, or would multiply the routes: see dress.
func (p idProduct) whole() *idProduct {
	p.members[idRoom] = p.members[idRoom][:1]
	for _, f := range idDress {
		p.members[f] = p.members[f][:1]
	}
	for f, out := range map[idFactor]uint8{idFront: frontPlain, idSize: sizeBeyond, idTarget: targetFiles, idInspect: 1} {
		if len(p.members[f]) > 1 {
			p.members[f] = slices.DeleteFunc(slices.Clone(p.members[f]), func(member uint8) bool { return member == out })
		}
	}
	return &p
}

// idDress are factors of which, in the whole product, each route has one member, which the seed chooses: other runs have others.
var idDress = [...]idFactor{idAuth, idLimit, idCoding, idCORS, idWeb, idMirror, idChosen}

// dress gives a combo of the whole product what its route has of these.
func (p *idProduct) dress(c idCombo, seed uint64) idCombo {
	rng := rand.New(rand.NewPCG(seed, uint64(c.route())))
	for _, f := range idDress {
		members := p.members[f]
		if f == idLimit && len(members) > 1 {
			members = slices.DeleteFunc(slices.Clone(members), func(member uint8) bool { return member == limitRefuses })
		}
		c[f] = members[rng.IntN(len(members))]
	}
	return c
}

// undress is the opposite.
func (p *idProduct) undress(c idCombo) idCombo {
	for _, f := range idDress {
		c[f] = p.members[f][0]
	}
	return c
}

// has reports whether a combo is one of the product's.
func (p *idProduct) has(c idCombo) bool {
	for f, members := range p.members {
		if !slices.Contains(members, c[f]) {
			return false
		}
	}
	return true
}

// size is how many combos there are.
func (p *idProduct) size() int {
	n := 1
	for _, members := range p.members {
		n *= len(members)
	}
	return n
}

// at numbers the combos. Those of a front follow each other.
func (p *idProduct) at(n int) (c idCombo) {
	for f := idFactors - 1; f >= 0; f-- {
		members := p.members[f]
		c[f] = members[n%len(members)]
		n /= len(members)
	}
	return c
}

// scattered is a number below size for each other one, far from its neighbours'.
func scattered(n, size int) int {
	const stride = 1_000_003 // a prime, and none of size's factors
	return n * stride % size
}

// pair is two members of different factors.
type pair struct {
	f, g idFactor
	a, b uint8
}

func (p *idProduct) pairs() map[pair]bool {
	all := map[pair]bool{}
	for f := range idFactors {
		for g := f + 1; g < idFactors; g++ {
			for _, a := range p.members[f] {
				for _, b := range p.members[g] {
					all[pair{f, g, a, b}] = true
				}
			}
		}
	}
	return all
}

func (c idCombo) pairs(yield func(pair) bool) {
	for f := range idFactors {
		for g := f + 1; g < idFactors; g++ {
			if !yield(pair{f, g, c[f], c[g]}) {
				return
			}
		}
	}
}

// cover is a list of combos in which every pair of members meets: the greedy way of AETG (Cohen and others, 1997).
func (p *idProduct) cover(rng *rand.Rand) (rows []idCombo) {
	const candidates = 30
	open := p.pairs()
	for len(open) > 0 {
		var best idCombo
		most := 0
		for range candidates {
			c := p.candidate(rng, open)
			gain := 0
			for one := range c.pairs {
				if open[one] {
					gain++
				}
			}
			if gain > most {
				best, most = c, gain
			}
		}
		for one := range best.pairs {
			delete(open, one)
		}
		rows = append(rows, best)
	}
	return rows
}

// candidate begins with an open pair, and goes on, factor by factor, with what closes the most.
func (p *idProduct) candidate(rng *rand.Rand, open map[pair]bool) (c idCombo) {
	var chosen [idFactors]bool
	for first := range open { // in the order of a map: any
		c[first.f], c[first.g] = first.a, first.b
		chosen[first.f], chosen[first.g] = true, true
		break
	}

	for _, f := range rng.Perm(int(idFactors)) {
		if chosen[f] {
			continue
		}
		most, members := -1, p.members[f]
		for _, i := range rng.Perm(len(members)) {
			gain := 0
			for g := range int(idFactors) {
				one := pair{idFactor(min(f, g)), idFactor(max(f, g)), members[i], c[g]}
				if f > g {
					one.a, one.b = one.b, one.a
				}
				if chosen[g] && open[one] {
					gain++
				}
			}
			if gain > most {
				c[f], most = members[i], gain
			}
		}
		chosen[f] = true
	}
	return c
}
