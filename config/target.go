package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

const targetForms = "a target is a port (3000), host:port, http://host[:port], https://host[:port], h2c://host[:port], srv+http://_service._tcp.name or unix:PATH"

// ParseTarget reads a backend's address. A bare port means localhost, IPv4 or IPv6, whichever answers.
func ParseTarget(s string) (Target, error) {
	switch {
	case s == "":
		return Target{}, errors.New("empty: " + targetForms)
	case strings.HasPrefix(s, "unix:"):
		path := strings.TrimPrefix(s, "unix:")
		if path == "" || strings.ContainsRune(path, 0) {
			return Target{}, errors.New("unix: needs the path of a socket, such as unix:/run/app.sock")
		}
		return Target{Network: "unix", Address: path}, nil
	case strings.Contains(s, "://"):
		return parseURL(s)
	}

	if strings.Trim(s, "0123456789") == "" {
		s = ":" + s
	}
	address, err := hostPort(s, "")
	return Target{Network: "tcp", Address: address}, err
}

func parseURL(s string) (Target, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Target{}, fmt.Errorf("%q is not a URL: %s", s, targetForms)
	}
	scheme, srv := strings.CutPrefix(u.Scheme, "srv+")
	u.Scheme = scheme
	ports := map[string]string{"http": "80", "https": "443", "h2c": "80", "tcp": "", "tls": ""}
	port, known := ports[u.Scheme]
	switch {
	case !known:
		return Target{}, fmt.Errorf("%q: the scheme must be http, https or h2c; for a site with tcp: tcp or tls", s)
	case u.User != nil:
		// The message does not repeat the target, as it holds a password.
		return Target{}, errors.New("a target takes no user name or password")
	case (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "":
		scheme, rest, _ := strings.Cut(s, "://")
		return Target{}, pathInTarget(s, scheme+"://"+u.Host, strings.TrimPrefix(rest, u.Host))
	}

	if srv {
		name, ok := WrittenHost(u.Host)
		if !ok || !strings.HasPrefix(name, "_") {
			return Target{}, fmt.Errorf("%q: %q is not the name of an SRV record, such as _http._tcp.app.internal", s, u.Host)
		}
		return Target{Scheme: u.Scheme, Network: "tcp", Address: name, SRV: true}, nil
	}

	// ${HOST} may be empty. A port alone is on this machine; without one, padlock's own plain HTTP would be the target.
	if u.Host == "" {
		return Target{}, fmt.Errorf("%q has no host: write %s://localhost for port %s of this machine", s, u.Scheme, cmp.Or(port, "3000"))
	}

	address, err := hostPort(u.Host, port)
	return Target{Scheme: u.Scheme, Network: "tcp", Address: address}, err
}

func hostPort(s, defaultPort string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil && defaultPort != "" {
		host, port, err = strings.Trim(s, "[]"), defaultPort, nil
	}
	if err != nil {
		return "", targetWanted(s)
	}

	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		if port == "" || strings.Contains(port, "/") {
			return "", targetWanted(s)
		}
		return "", fmt.Errorf("%q: the port must be a number from 1 to 65535", s)
	}

	if host == "" {
		host = "localhost"
	}

	name, ok := WrittenHost(host)
	if !ok {
		return "", fmt.Errorf("%q: %q is not a host name or address", s, host)
	}

	return net.JoinHostPort(name, port), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Target) UnmarshalText(text []byte) (err error) {
	*t, err = ParseTarget(string(text))
	return err
}

// String is the form that ParseTarget reads.
func (t Target) String() string {
	switch {
	case t.Network == "unix":
		return "unix:" + t.Address
	case t.SRV:
		return "srv+" + t.Scheme + "://" + t.Address
	case t.Scheme == "":
		return t.Address
	}
	return t.Scheme + "://" + t.Address
}
