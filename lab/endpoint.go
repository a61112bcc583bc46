// Package lab is a server of TLS endpoints with one fault each, and a judge of the clients that meet them.
//
//	l, err := lab.Open(lab.Options{Listen: []string{"127.0.0.1:8444"}})
//	go l.Serve(ctx)
//	report, err := l.Check(ctx, lab.Check{Command: []string{"curl", "-sS", "--cacert", "{root}", "{url}"}})
package lab

import (
	"crypto/tls"
	"fmt"
	"path"
	"slices"
	"strings"

	"padlock/lab/pki"
	"padlock/lab/rogue"
)

// Domain is what the names of all endpoints end with.
const Domain = "lab.localhost"

// Expectation is what a correct client does.
type Expectation string

const (
	MustRefuse   Expectation = "must refuse"
	ShouldRefuse Expectation = "should refuse"
	May          Expectation = "may"
	ShouldAccept Expectation = "should accept"
	MustAccept   Expectation = "must accept"
)

// Group sorts endpoints.
type Group string

const (
	Controls     Group = "controls"
	Certificates Group = "certificates"
	Protocol     Group = "protocol"
	Misbehaviour Group = "misbehaviour"
)

// Proof is what shows that a client has accepted an endpoint.
type Proof int

const (
	// ByRequest: it has sent application data.
	ByRequest Proof = iota
	// ByFinished: it has sent its Finished, as its data could not always be read.
	ByFinished
	// ByReport: it has received data and reports success, as the fault comes after its request.
	ByReport
	// ByExit: it reports success, whatever it has sent.
	ByExit
	// ByEnd: it has not given up by itself.
	ByEnd
)

// Endpoint is one name below Domain, with what a client meets there.
type Endpoint struct {
	Name        string
	Host        string // "": the name below Domain
	Group       Group
	Expect      Expectation
	Wrong       string // what is wrong, or what is special
	Rule        string // where it is written
	Consequence string // what goes wrong for users of a client that does otherwise

	proof  Proof
	basis  string                              // the endpoint without the fault: who refuses that, too, has not seen the fault
	chains []func(*pki.Maker) *tls.Certificate // none: the good ones
	config func(*tls.Config)
	needs  func(*tls.ClientHelloInfo) string // why the endpoint cannot be shown to this client; "": it can

	wire    func() wirePlan                       // changes what passes below crypto/tls
	rogue   func(*pki.Maker) (*rogue.Plan, error) // instead of crypto/tls
	raw     func(*session)                        // instead of TLS, once the hello is read
	answer  func(*session, appConn) error         // instead of HTTP, once the request is read
	large   bool                                  // its handshake is larger than clients over QUIC need to take (RFC 9000 section 7.5)
	resumes bool                                  // it shares its ticket keys among connections
	tuned   func(*tls.ClientHelloInfo) string     // why this client may do as it likes; "": what is expected of all
}

// Hostname is the name in the endpoint's URL.
func (e *Endpoint) Hostname() string {
	if e.Host != "" {
		return e.Host
	}
	return e.Name + "." + Domain
}

// Endpoints are all endpoints, the controls first.
func Endpoints() []*Endpoint {
	var all []*Endpoint
	for _, list := range [][]Endpoint{controls, certificates(), protocols(), misbehaviours()} {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	return all
}

// Choose are the endpoints that patterns, separated by commas, stand for, without the controls: a name, a group, or
// either with *. A pattern that begins with ! takes away what it stands for; if all do, the others are meant, and if
// there are none, all. It is an error if a pattern stands for nothing. alert-N and silence-N are there with any number.
func Choose(patterns string) (chosen []*Endpoint, err error) {
	all := Endpoints()[len(controls):]
	if patterns == "" {
		return all, nil
	}
	var wanted, excluded []string
	for text := range strings.SplitSeq(patterns, ",") {
		pattern, excludes := strings.CutPrefix(strings.TrimSpace(text), "!")
		// The controls are met whatever is chosen.
		if !slices.ContainsFunc(Endpoints(), func(e *Endpoint) bool { return e.matches(pattern) }) {
			e := numbered(pattern)
			if e == nil {
				return nil, fmt.Errorf("no endpoint is named %q", pattern)
			}
			all = append(all, e)
		}
		if excludes {
			excluded = append(excluded, pattern)
		} else {
			wanted = append(wanted, pattern)
		}
	}

	for _, e := range all {
		if (len(wanted) == 0 || slices.ContainsFunc(wanted, e.matches)) && !slices.ContainsFunc(excluded, e.matches) {
			chosen = append(chosen, e)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%q leaves no endpoint", patterns)
	}
	return chosen, nil
}

func (e *Endpoint) matches(pattern string) bool {
	byName, _ := path.Match(pattern, e.Name)
	byGroup, _ := path.Match(pattern, string(e.Group))
	return byName || byGroup
}

// controls must work, or nothing can be concluded.
var controls = []Endpoint{
	{
		Name: "good", Group: Controls, Expect: MustAccept,
		Wrong: "Nothing: TLS 1.2 and 1.3, and a certificate of ECDSA or RSA, whatever the client can.", Rule: "RFC 8446, RFC 5280",
		Consequence: "Nothing can be said of a client that fails here.",
	},
	{
		Name: "good-wildcard", Group: Controls, Expect: MustAccept, chains: one(named("*." + Domain)), config: http1Only,
		Wrong: "Nothing: a second good endpoint, with a wildcard certificate.", Rule: "RFC 9525 section 6.3",
		Consequence: "Nothing can be said of a client that fails here.",
	},
	{
		Name: "bad-control", Group: Controls, Expect: MustRefuse, proof: ByExit, raw: func(s *session) {},
		Wrong: "The server closes the connection behind the client's hello.", Rule: "none",
		Consequence: "A client that reports success here reports nothing at all, so its exit code proves nothing.",
	},
}
