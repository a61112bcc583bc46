package console

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"padlock/handshake"
	"padlock/handshake/wire"
)

// filter is a choice of handshakes, as it stands in the query of an address. Empty fields choose all.
type filter struct {
	Outcome string // failures: all but complete ones; attention: failures that are no noise; or one outcome
	SNI     string // part of the server name
	Remote  string // part of the client's address, or of its fingerprint
	Version string // 1.2, 1.3
}

// tlsVersions are those that a handshake can have, as wire.VersionName names them.
var tlsVersions = []string{"1.3", "1.2", "1.1", "1.0"}

// newFilter reads a filter. An error has what cannot be understood: nothing is chosen by half of a filter.
func newFilter(q url.Values) (filter, error) {
	f := filter{q.Get("outcome"), strings.ToLower(q.Get("sni")), q.Get("remote"), q.Get("version")}
	outcomes := []string{"", "failures", "attention", string(handshake.Complete), string(handshake.Silent), string(handshake.Unused), string(handshake.Failed), string(handshake.NotTLS)}
	if !slices.Contains(outcomes, f.Outcome) {
		return f, fmt.Errorf("outcome must be one of %s, not %q", strings.Join(outcomes[1:], ", "), f.Outcome)
	}
	if f.Version != "" && !slices.Contains(tlsVersions, f.Version) {
		return f, fmt.Errorf("version must be one of %s, not %q", strings.Join(tlsVersions, ", "), f.Version)
	}
	return f, nil
}

func (f filter) matches(e *handshake.Event) bool {
	switch f.Outcome {
	case "", string(e.Outcome):
	case "failures":
		if e.Outcome == handshake.Complete || e.Outcome == handshake.Unused {
			return false
		}
	case "attention":
		if !attention(e) {
			return false
		}
	default:
		return false
	}

	return strings.Contains(strings.ToLower(e.SNI), f.SNI) && (strings.Contains(e.Remote, f.Remote) || strings.HasPrefix(e.JA4, f.Remote)) &&
		(f.Version == "" || e.Version != 0 && wire.VersionName(e.Version) == f.Version)
}

// Query is the filter as part of an address.
func (f filter) Query() string {
	q := url.Values{}
	for key, value := range map[string]string{"outcome": f.Outcome, "sni": f.SNI, "remote": f.Remote, "version": f.Version} {
		if value != "" {
			q.Set(key, value)
		}
	}
	return q.Encode()
}

// attention reports whether a person should look at a handshake.
func attention(e *handshake.Event) bool { return e.Outcome != handshake.Complete && e.Noise == "" }
