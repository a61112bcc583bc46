package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Upstreams yields all groups of targets of a site: those of its routes or of tcp, and the services that are asked.
func (s *Site) Upstreams(yield func(*Upstream) bool) {
	if s.TCP != nil && !yield(&s.TCP.Upstream) {
		return
	}
	if f := s.Access.ForwardAuth; f != nil && !yield(&f.Upstream) {
		return
	}
	for i := range s.Routes {
		r := &s.Routes[i]
		if f := r.Access.ForwardAuth; f != nil && !yield(&f.Upstream) || !yield(&r.Upstream) {
			return
		}
	}
}

func (v *validator) upstream(path string, u *Upstream, schemes []string) {
	v.targets(path, u, schemes)
	standard(&u.Balance, "round_robin")
	standard(&u.Resolve, "any")
	v.oneOf(path+".resolve", u.Resolve, "any", "each")
	v.oneOf(path+".balance", u.Balance, "round_robin", "least_conn", "random", "hash")
	v.hashBy(path, u)
	switch {
	case isSwitch(u.Sticky):
		v.fail(path+".sticky", "%q is not the name of a cookie: write one, such as sticky: lb, or leave the key out", u.Sticky)
	case u.Sticky != "":
		v.fieldName(path+".sticky", u.Sticky)
	}

	if u.Health != nil {
		v.health(path+".health", u.Health, schemes[0] == "http")
	}

	v.failures(path, u)
	v.protocol(path, u, schemes[0] == "http")
	v.keepAlive(path, u, schemes[0] == "http")
	v.targetTLS(path, u)
}

// protocol checks how targets are spoken to.
func (v *validator) protocol(path string, u *Upstream, http bool) {
	if u.Protocol == "" {
		return
	}
	v.oneOf(path+".protocol", u.Protocol, "auto", "http1", "http2")
	if !http {
		v.fail(path+".protocol", "is for HTTP: targets of tcp get the client's protocol unread")
		return
	}
	for i := range u.To {
		if u.To[i].Target.Scheme == "h2c" && u.Protocol == "http1" {
			v.fail(path+".protocol", "http1 contradicts %s, which is HTTP/2: write http:// in its place", u.To[i].Target)
		}
	}
}

func (v *validator) targets(path string, u *Upstream, schemes []string) {
	for i := range u.To {
		at := fmt.Sprintf("%s.to[%d]", path, i)
		b := &u.To[i]
		if b.Weight == 0 {
			b.Weight = 1
		} else if b.Weight > 1000 {
			v.fail(at+".weight", "%d must be from 1 to 1000", b.Weight)
		}

		standard(&b.Target.Scheme, schemes[0])
		switch {
		case b.Target.Address == "":
			v.fail(at, "needs a target")
		case !slices.Contains(schemes, b.Target.Scheme):
			v.fail(at, "%s: the scheme must be one of: %s", b.Target, strings.Join(schemes, ", "))
		case slices.ContainsFunc(u.To[:i], func(other Backend) bool { return other.Target == b.Target }):
			v.fail(at, "%s is given twice: weight gives it a larger share", b.Target)
		}
	}
}

// failures checks what is done about targets that fail, or that have too much to do.
func (v *validator) failures(path string, u *Upstream) {
	passive := &u.PassiveHealth
	if passive.Off && (passive.Failures != 0 || passive.Cooldown != 0) {
		v.fail(path+".passive_health", "off goes with nothing else")
	}

	// With off, defaults would make the configuration invalid when it is validated again.
	if !passive.Off {
		standard(&passive.Failures, 3)
		standard(&passive.Cooldown, 10*time.Second)
	}

	if u.Circuit.Pending > 0 && u.Circuit.Requests == 0 {
		v.fail(path+".circuit.pending", "needs circuit.requests: without a limit nothing waits")
	}

	standard(&u.Circuit.Wait, 5*time.Second)

	standard(&u.Retry.Attempts, 3)
	standard(&u.Retry.Budget, 0.2)
}

func (v *validator) keepAlive(path string, u *Upstream, http bool) {
	if u.KeepAlive.Off && (u.KeepAlive.Idle != 0 || u.KeepAlive.Connections != 0) {
		v.fail(path+".keepalive", "off goes with nothing else")
	}
	if !u.KeepAlive.Off && http {
		standard(&u.KeepAlive.Idle, 90*time.Second)
		standard(&u.KeepAlive.Connections, 256)
	}
}

func (v *validator) targetTLS(path string, u *Upstream) {
	if u.CA != "" {
		v.bundle(path+".ca", u.CA)
	}

	if (u.ClientCert == "") != (u.ClientKey == "") {
		v.fail(path, "client_cert and client_key go together")
	} else if u.ClientCert != "" {
		v.pair(path+".client_cert", u.ClientCert, path+".client_key", u.ClientKey)
	}

	if u.ServerName != "" {
		if name, ok := WrittenHost(u.ServerName); !ok {
			v.fail(path+".server_name", "%q is not a host name", u.ServerName)
		} else if !ascii(u.ServerName) {
			// Server names are ASCII in TLS, with international ones in punycode (RFC 6066 section 3).
			u.ServerName = name
		}
	}
}

// standard gives a value that was not set its default.
func standard[T comparable](value *T, preset T) {
	var zero T
	if *value == zero {
		*value = preset
	}
}

func (v *validator) hashBy(path string, u *Upstream) {
	if u.Balance != "hash" {
		if u.HashBy != "" {
			v.fail(path+".hash_by", "goes with balance: hash only")
		}
		return
	}

	standard(&u.HashBy, "address")
	kind, name, named := strings.Cut(u.HashBy, ":")
	switch {
	case u.HashBy == "address":
	case named && (kind == "cookie" || kind == "header"):
		v.fieldName(path+".hash_by", name)
	default:
		v.fail(path+".hash_by", "%q must be address, cookie:NAME or header:NAME", u.HashBy)
	}
}

func (v *validator) health(path string, h *Health, http bool) {
	if !http {
		if h.Path != "" || h.Status != "" || h.Host != "" {
			v.fail(path, "path, host and status are for HTTP; a TCP target is healthy if it accepts connections")
		}
	} else if !checkable(h.Path) {
		v.fail(path+".path", "%q is not a path such as /healthz", h.Path)
	}

	if _, _, err := ParseStatuses(h.Status); h.Status != "" && err != nil {
		v.fail(path+".status", "%v", err)
	}

	if h.Host != "" {
		if name, ok := WrittenHost(h.Host); !ok {
			v.fail(path+".host", "%q is not a host name", h.Host)
		} else if !ascii(h.Host) {
			h.Host = name
		}
	}

	if http {
		standard(&h.Status, "200-399")
	}

	standard(&h.Interval, 10*time.Second)
	standard(&h.Timeout, 2*time.Second)
	standard(&h.Rise, 2)
	standard(&h.Fall, 3)
	if h.Interval < 100*time.Millisecond {
		v.fail(path+".interval", "%v must be 100ms or more", h.Interval)
	}
}

// checkable reports whether a path, with its query, can stand in a request line.
func checkable(path string) bool {
	// A request line has no fragment (RFC 9112 section 3.2).
	return strings.HasPrefix(path, "/") && !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' })
}

// ParseStatuses reads a status or a range of them: 200, 200-399.
func ParseStatuses(s string) (low, high int, err error) {
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	low, err = strconv.Atoi(from)
	if err == nil {
		high, err = strconv.Atoi(to)
	}
	if err != nil || low < 100 || high > 599 || low > high {
		return 0, 0, fmt.Errorf("%q is not a status or a range of them, such as 200-299", s)
	}
	return low, high, nil
}
