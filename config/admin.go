package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
)

// Admin is the endpoint with console, metrics and health. padlock always has one on a socket in its storage
// directory, where only its own user gets in, unless another place for the socket is given; an address is for
// browsers and Prometheus.
type Admin struct {
	// An address in addition to the socket, or `unix:PATH` to move the socket, or `"off"`. Other addresses than
	// loopback ones use HTTPS and need `token` or `client_ca`.
	Address string `yaml:"address" path:"unix:"` // host:port, `unix:PATH` or `"off"`
	// Token that clients must present, as the password of any user or as `Authorization: Bearer TOKEN`. At least 16
	// characters.
	Token string `yaml:"token" secret:"yes" empty:"never"`
	// CAs that issue client certificates. Clients must present one.
	ClientCA string `yaml:"client_ca" empty:"never" path:"yes"` // PEM file
	// Certificate of an address that is not a loopback one. By default padlock selects one as for sites.
	Cert string `yaml:"cert" path:"yes"` // PEM file
	// The private key of `cert`.
	Key string `yaml:"key" path:"yes"` // PEM file
	// Names by which clients can request the endpoint. Addresses and `localhost` are always allowed.
	Hosts []string `yaml:"hosts" empty:"may"`
}

// UnmarshalText takes the address alone, or off.
func (a *Admin) UnmarshalText(text []byte) error {
	switch a.Address = string(text); a.Address {
	case "false":
		a.Address = "off"
	case "true", "on", "yes":
		return fmt.Errorf("%q must be off, an address or unix:PATH: padlock always has an admin endpoint, on a socket in its storage directory, so leave the key out; for browsers and Prometheus, write admin: 127.0.0.1:2020", text)
	}
	return nil
}

// minToken is the shortest token: 16 characters of a random text cannot be guessed through a network.
const minToken = 16

// Off reports whether there is no admin endpoint at all.
func (a *Admin) Off() bool { return a.Address == "off" }

// TCP is the host:port that is listened on beside the socket; "" for none.
func (a *Admin) TCP() string {
	if a.Off() || strings.HasPrefix(a.Address, "unix:") {
		return ""
	}
	return a.Address
}

// Guarded reports whether clients come from other machines: they use TLS, and show who they are.
func (a *Admin) Guarded() bool { return a.TCP() != "" && !loopbackAddress(a.TCP()) }

func loopbackAddress(address string) bool {
	host, _, err := net.SplitHostPort(address)
	addr, parse := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || parse == nil && addr.IsLoopback())
}

// AdminSocket is the path of the admin endpoint's Unix socket.
func (c *Config) AdminSocket() string {
	if path, ok := strings.CutPrefix(c.Admin.Address, "unix:"); ok {
		return path
	}
	return filepath.Join(c.StateDirectory(), "admin.sock")
}

func (v *validator) admin(a *Admin) {
	if a.Address == "" {
		if a.Token != "" || a.ClientCA != "" || a.Cert != "" || a.Key != "" || len(a.Hosts) > 0 {
			v.fail("admin.address", "is missing: the socket in the storage directory needs nothing else")
		}
		return
	}

	if address, before := a.TCP(), len(v.errs); address != "" {
		if v.address("admin", address); len(v.errs) > before {
			return
		}
	}

	v.adminGuard(a)
	for i, host := range a.Hosts {
		name, ok := CanonicalHost(host)
		if !ok {
			v.fail(fmt.Sprintf("admin.hosts[%d]", i), "%q is not a host name", host)
			continue
		}
		a.Hosts[i] = name
	}
}

// adminGuard is for who may ask an endpoint that has an address.
func (v *validator) adminGuard(a *Admin) {
	if a.Token != "" && len(a.Token) < minToken {
		v.fail("admin.token", "is shorter than %d characters: openssl rand -hex 16 makes a good one", minToken)
	}
	if a.Guarded() && a.Token == "" && a.ClientCA == "" {
		v.fail("admin", "%q can be reached from other machines: it needs a token or a client_ca; off, unix:PATH and loopback addresses such as 127.0.0.1:2020 need none", a.Address)
	}

	if !a.Guarded() && (a.ClientCA != "" || a.Cert != "" || a.Key != "") {
		v.fail("admin", "client_ca, cert and key go with an address that other machines can reach; %q is served without TLS", a.Address)
	}
	if a.ClientCA != "" {
		v.bundle("admin.client_ca", a.ClientCA)
	}

	if a.Cert != "" || a.Key != "" {
		v.pair("admin.cert", a.Cert, "admin.key", a.Key)
	}
}
