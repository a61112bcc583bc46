package config

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestEveryErrorIsToldAtOnceWithItsLine(t *testing.T) {
	_, err := Parse("padlock.yaml", []byte(`listen: {https: [":99999"]}
handshake: {show: all}
tls: {min_version: "1.1"}
sites:
  - hosts: [App.Example.com]
    routes: [{to: "ftp://x"}]
`))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"padlock.yaml:2:1: handshake: unknown key; did you mean handshakes?",
		"padlock.yaml:6:19: sites[0].routes[0].to[0]: \"ftp://x\": the scheme must be http, https or h2c",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in\n%v", want, err)
		}
	}
	_, err = Parse("padlock.yaml", []byte("listen: {https: [\":99999\"]}\ntls: {min_version: \"1.1\"}\nsites:\n  - hosts: [a.test, A.test.]\n"))
	for _, want := range []string{"padlock.yaml:1:18: listen.https[0]:", "padlock.yaml:2:20: tls.min_version:", "padlock.yaml:4:21: sites[0].hosts[1]: a.test already stands at sites[0].hosts[0]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in\n%v", want, err)
		}
	}
}

func TestAFileBecomesAConfigWithDefaultsAndVariables(t *testing.T) {
	t.Setenv("APP_PORT", "3000")
	c, err := Parse("padlock.yaml", []byte("sites:\n  - hosts: [App.Test.]\n    routes: [{to: \"localhost:${APP_PORT}\", forwarded: \"${UNSET:-true}\"}]\ntimeouts: {header: 3s}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Sites[0]
	if s.Hosts[0] != "app.test" || s.Routes[0].To[0].Target.Address != "localhost:3000" || !s.Routes[0].Forwarded {
		t.Errorf("%+v", s)
	}
	if c.Timeouts.Header.Seconds() != 3 || c.Timeouts.Handshake.Seconds() != 10 {
		t.Errorf("%+v", c.Timeouts)
	}
}

func TestLimitsAreAboveZero(t *testing.T) {
	_, err := Parse("padlock.yaml", []byte("sites: [{hosts: [a.test]}]\nlimits: {header_size: -1, header_fields: 0}\ntimeouts: {body_idle: -1s}\n"))
	for _, want := range []string{"2:23: limits.header_size: \"-1\"", "2:42: limits.header_fields: \"0\"", "3:23: timeouts.body_idle: \"-1s\""} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in\n%v", want, err)
		}
	}
	_, err = Parse("padlock.yaml", []byte("sites: [{hosts: [a.test]}]\naccess_log: {output: \"off\"}\n"))
	if want := "access_log.output: off is not a place; to log nothing: format: off"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("missing %q in\n%v", want, err)
	}
}

func TestTargets(t *testing.T) {
	for in, want := range map[string]string{
		"3000": "localhost:3000", ":80": "localhost:80", "10.0.0.1:8080": "10.0.0.1:8080", "tcp://db:5432": "tcp://db:5432",
		"http://App": "http://app:80", "https://app:8443/": "https://app:8443", "http://[::1]:9": "http://[::1]:9", "unix:/run/a.sock": "unix:/run/a.sock",
		"h2c://App:50051": "h2c://app:50051",
	} {
		got, err := ParseTarget(in)
		if err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "70000", "app", "http://u:secret@h", "http://h/path", "http://h?q", "unix:", "a b:1", "host:http", "tcp://db", "ftp://h:21"} {
		if got, err := ParseTarget(in); err == nil {
			t.Errorf("%q gave %v", in, got)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error repeats the secret", in)
		}
	}
}

func TestNamesHaveOneForm(t *testing.T) {
	for in, want := range map[string]string{
		"LocalHost": "localhost", "a.B.": "a.b", "[::1]": "::1", "::FFFF:10.0.0.1": "10.0.0.1", "x_y.test": "x_y.test",
	} {
		if got, ok := CanonicalHost(in); !ok || got != want {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", ".", "a..b", "-a", "a b", "a\x00", "*.a", "[::1", "fe80::1%eth0", "ä.de", strings.Repeat("a", 64), strings.Repeat("a.", 140) + "a"} {
		if got, ok := CanonicalHost(in); ok {
			t.Errorf("%q gave %q", in, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("sites: [{hosts: [a.test], routes: [{to: 3000}]}]"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("sites:\n  - hosts: [\"*\"]\n    tls: {client_auth: {mode: require}}"))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = Parse("fuzz", data) })
}

// Every key that docs/configuration.md describes, at once.
func TestEveryKeyIsRead(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"cert.pem", "key.pem"} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Parse("padlock.yaml", []byte(`listen: {https: [":443"], http: [":80"]}
admin: unix:/run/padlock.sock
storage: /var/lib/padlock
organization: Example Ltd
certificates: {files: [{cert: cert.pem, key: key.pem}]}
tls: {min_version: "1.3"}
handshakes:
  {show: failures, format: json, output: handshakes.log, sample: 10, rotate: {max_size_mib: 5, keep: 2},
   privacy: {addresses: truncated, names: hashed}, capture: h.pcapng, insecure_export_secrets: true}
access_log: {format: json, output: access.log, rotate: {max_size_mib: 5, keep: 2}}
timeouts: {handshake: 1s, header: 2s, idle: 3s, body_idle: 4s, connect: 5s, response_header: 6s, shutdown: 7s}
limits: {connections: 100, header_size: 8192}
error_details: true
sites:
  - hosts: [app.test]
    tls: {legacy_rsa_key_exchange: true}
    routes: [{to: "https://app:8443", forwarded: true, handshake_header: true, insecure_skip_verify: true}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.AdminSocket() != "/run/padlock.sock" || c.Admin.TCP() != "" {
		t.Errorf("%+v", c.Admin)
	}
	if h := c.Handshakes; h.Sample != 10 || h.Rotate.MaxSize != 5 || h.Privacy.Names != "hashed" || !c.Sites[0].TLS.LegacyRSA || !c.Sites[0].Routes[0].Handshake {
		t.Errorf("%+v", c)
	}
	_, err = Parse("padlock.yaml", []byte("admin: 192.0.2.1:2020\nhandshakes: {capture: x, privacy: {names: none}}\nsites: [{hosts: [a.test]}]\n"))
	for _, want := range []string{"1:8: admin:", "2:23: handshakes.capture:", "2:43: handshakes.privacy.names:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in\n%v", want, err)
		}
	}
}

func TestSitesAreAddedWithoutTouchingThoseThatAreServed(t *testing.T) {
	read := func() *Config {
		c, err := Parse("padlock.yaml", []byte("docker: on\nsites: [{hosts: [a.test], www: add, routes: [{to: 3000, health: {path: /}}]}]"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c, before := read(), read()
	more := Site{Hosts: []string{"B.test"}, Routes: []Route{{Upstream: Upstream{To: []Backend{{Target: Target{Network: "tcp", Address: "10.0.0.1:80"}}}}}}}
	next, err := c.With(more)
	if err != nil || len(next.Sites) != 2 || next.Sites[1].Hosts[0] != "b.test" || next.Sites[1].Routes[0].Balance != "round_robin" {
		t.Errorf("%+v, %v", next, err)
	}
	for host, want := range map[string]string{
		"www.a.test": "sites[1].hosts[0]: www.a.test already stands at sites[0].hosts[1]",
		"a b":        `sites[1].hosts[0]: "a b": each host is an item`,
	} {
		if next, err := c.With(Site{Hosts: []string{host}}); next != nil || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if !reflect.DeepEqual(c, before) {
		t.Errorf("%+v has changed", c)
	}
}

// However a network and an address are written, one matcher decides, and decides as the numbers say.
func TestNetworksContainAddressesInEveryForm(t *testing.T) {
	t.Parallel()
	for network, c := range map[string]struct{ in, out []string }{
		"10.0.0.0/8":            {[]string{"10.1.2.3", "::ffff:10.1.2.3", "::ffff:a01:203"}, []string{"11.0.0.1", "::10.1.2.3", "2002:a01:203::"}},
		"::ffff:10.0.0.0/104":   {[]string{"10.1.2.3", "::ffff:10.1.2.3"}, []string{"11.0.0.1", "::ffff:11.0.0.1", "::a01:203"}},
		"::ffff:10.0.0.1":       {[]string{"10.0.0.1", "::ffff:10.0.0.1"}, []string{"10.0.0.2"}},
		"::ffff:0.0.0.0/96":     {[]string{"1.2.3.4", "::ffff:1.2.3.4"}, []string{"::1", "2001:db8::1"}},
		"fe80::/10":             {[]string{"fe80::1", "fe80::1%eth0"}, []string{"10.0.0.1", "::1"}},
		"2001:db8::/32":         {[]string{"2001:db8::1", "2001:db8::1%2"}, []string{"2001:db9::1"}},
		"0.0.0.0/0":             {[]string{"1.2.3.4", "::ffff:1.2.3.4"}, []string{"::1"}},
		"::/0":                  {[]string{"::1", "2001:db8::1"}, []string{"1.2.3.4", "::ffff:1.2.3.4"}},
		"::ffff:10.1.2.128/121": {[]string{"10.1.2.200"}, []string{"10.1.2.1"}},
	} {
		var n Network
		if err := n.UnmarshalText([]byte(network)); err != nil {
			t.Errorf("%s: %v", network, err)
			continue
		}
		for _, in := range c.in {
			if !n.Contains(netip.MustParseAddr(in)) {
				t.Errorf("%s does not contain %s", network, in)
			}
		}
		for _, out := range c.out {
			if n.Contains(netip.MustParseAddr(out)) {
				t.Errorf("%s contains %s", network, out)
			}
		}
	}
}
