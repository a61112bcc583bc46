package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"padlock/internal/mask"
)

const defaultEngine = "unix:///var/run/docker.sock"

// UnmarshalText takes on, or the endpoint alone.
func (d *Docker) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "on", "true":
	case "off", "false", "no":
		return fmt.Errorf("%q must be on, the engine's endpoint, or a mapping of keys to values: to look for no containers, leave docker out", s)
	default:
		d.Endpoint = s
	}
	return nil
}

// Dial says where the engine listens, in the words of package net.
func (d *Docker) Dial() (network, address string) {
	if path, ok := strings.CutPrefix(d.Endpoint, "unix:"); ok {
		return "unix", strings.TrimPrefix(path, "//")
	}
	return "tcp", strings.TrimPrefix(d.Endpoint, "tcp://")
}

func (v *validator) docker(path string, d *Docker) {
	standard(&d.Endpoint, os.Getenv("DOCKER_HOST"))
	standard(&d.Endpoint, defaultEngine)
	v.engine(path+".endpoint", d)
	for i, label := range d.Labels {
		if name, _, _ := strings.Cut(label, "="); name == "" {
			v.fail(fmt.Sprintf("%s.labels[%d]", path, i), "%q is not a label such as com.example.edge or com.example.edge=public", label)
		}
	}

	for i, domain := range d.Domains {
		name, ok := WrittenHost(domain)
		if !ok {
			v.fail(fmt.Sprintf("%s.domains[%d]", path, i), "%q is not a domain such as apps.example.com", domain)
			continue
		}
		d.Domains[i] = name
	}

	names := map[string]bool{}
	for i := range d.Access {
		a, at := &d.Access[i], fmt.Sprintf("%s.access[%d]", path, i)
		switch {
		case !isToken(a.Name):
			v.fail(at+".name", "%q is not a name such as staff", a.Name)
		case names[a.Name]:
			v.fail(at+".name", "%q is the name of other rules too", a.Name)
		case !a.rules():
			v.fail(at, "has no rules: everybody could come in")
		}
		names[a.Name] = true
		v.access(at, &a.Access)
		v.oneCredential(at, &Access{}, &a.Access)
	}
}

// Named are the access rules that a container may choose by a name; nil: there are none.
func (d *Docker) Named(name string) *Access {
	for i := range d.Access {
		if d.Access[i].Name == name {
			return &d.Access[i].Access
		}
	}
	return nil
}

// overrides finds wildcards that containers could not take anything from. The sites have been checked.
func (v *validator) overrides(c *Config) {
	if c.Docker == nil {
		return
	}

	for i, pattern := range c.Docker.Override {
		at := fmt.Sprintf("docker.override[%d]", i)
		name, ok := CanonicalPattern(pattern)
		switch {
		case !ok || !strings.HasPrefix(name, "*"):
			v.fail(at, "%q is not a wildcard such as *.example.com: containers never take a name that a site has by itself", pattern)
		case !slices.ContainsFunc(c.Sites, func(s Site) bool { return slices.Contains(s.Hosts, name) }):
			v.fail(at, "no site has the host %s", name)
		default:
			c.Docker.Override[i] = name
		}
	}
}

func (v *validator) engine(path string, d *Docker) {
	const forms = "unix:///var/run/docker.sock or tcp://socket-proxy:2375"
	network, address := d.Dial()
	switch {
	case network == "unix" && !filepath.IsAbs(address):
		v.fail(path, "%q is not the path of a socket, as in %s", mask.URL(d.Endpoint), forms)
	case network == "tcp" && !strings.HasPrefix(d.Endpoint, "tcp://"):
		v.fail(path, "%q is no way to an engine that padlock knows: it is %s", mask.URL(d.Endpoint), forms)
	case network == "tcp":
		if host, _, err := net.SplitHostPort(address); err != nil || host == "" {
			v.fail(path, "%q needs a host and a port, as in %s", mask.URL(d.Endpoint), forms)
			return
		}
		v.address(path, address)
	}
}
