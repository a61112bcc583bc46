package sites

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"padlock/config"
	"padlock/config/template"
	"padlock/internal/servicetest"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/upstream"
	"padlock/traffic"
)

// decided is the snapshot of a configuration.
func decided(t *testing.T, text string, older *Snapshot) *Snapshot {
	t.Helper()
	cfg, err := config.Parse(filepath.Join(t.TempDir(), "padlock.yaml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{TLS: &tls.Config{}, Targets: &upstream.Targets{Log: slog.New(slog.DiscardHandler)}, Book: &traffic.Book{}, Older: older}
	s, err := New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// first is the first host of a site, "" for none.
func first(s *Snapshot, site *Site) string {
	for i, known := range s.Sites {
		if known == site {
			return s.Config.Sites[i].Hosts[0]
		}
	}
	return ""
}

// An exact name goes before a wildcard of one label, and that before the fallback, in whatever form a client writes the name.
func TestAHostFindsItsMostSpecificSite(t *testing.T) {
	s := decided(t, `sites:
  - {hosts: [app.localhost, "[::1]", 127.0.0.1]}
  - {hosts: ["*.localhost"]}
  - {hosts: ["*"], listen: ["127.0.0.1:9443"]}
  - {hosts: [own.localhost], listen: ["127.0.0.1:9443"]}
`, nil)
	for _, test := range []struct{ listener, host, site, name string }{
		{"", "app.localhost", "app.localhost", "app.localhost"}, {"", "APP.localhost.:8443", "app.localhost", "app.localhost"},
		{"", "other.localhost", "*.localhost", "other.localhost"}, {"", "a.b.localhost", "", "a.b.localhost"},
		{"", "[::1]:443", "app.localhost", "::1"}, {"", "127.0.0.1", "app.localhost", "127.0.0.1"}, {"", "app.localhost:port", "", ""},
		{"", "own.localhost", "*.localhost", "own.localhost"}, {"", "", "", ""},
		{"127.0.0.1:9443", "own.localhost", "own.localhost", "own.localhost"}, {"127.0.0.1:9443", "anything.example", "*", "anything.example"},
		{"127.0.0.1:1", "app.localhost", "app.localhost", "app.localhost"}, // a listener that a reload has taken away
	} {
		found, name := s.Hosts(test.listener).Site(test.host)
		if got := first(s, found); got != test.site || name != test.name {
			t.Errorf("%q on %q is %q of site %q, not %q of %q", test.host, test.listener, name, got, test.name, test.site)
		}
	}
	if !s.Own("127.0.0.1:9443") || s.Own("") || s.Own("127.0.0.1:1") {
		t.Error("listeners with sites of their own are not those of the configuration")
	}
}

// A client that names no host asks for the site with its connection's address; one that names a host never does.
func TestAHelloAsksForASite(t *testing.T) {
	s := decided(t, `sites:
  - {hosts: [app.localhost]}
  - {hosts: [127.0.0.1]}
  - {hosts: [alone.localhost], listen: ["127.0.0.1:9443"]}
`, nil)
	for _, test := range []struct{ listener, sni, local, site string }{
		{"", "app.localhost", "127.0.0.1:443", "app.localhost"}, {"", "", "127.0.0.1:443", "127.0.0.1"}, {"", "", "127.0.0.2:443", ""},
		{"", "unknown.localhost", "127.0.0.1:443", ""}, {"127.0.0.1:9443", "", "127.0.0.1:9443", "alone.localhost"},
	} {
		if got := first(s, s.Hosts(test.listener).Asked(test.sni, test.local)); got != test.site {
			t.Errorf("%q at %s asks for %q, not %q", test.sni, test.local, got, test.site)
		}
	}
}

// Routes are tried from the most specific to the least, whatever their order in the file, and a route with other methods says which.
func TestTheMostSpecificRouteIsFound(t *testing.T) {
	s := decided(t, `sites:
  - hosts: [app.localhost]
    routes:
      - {respond: {body: rest}}
      - {path: /api, respond: {body: api}}
      - {path: /api, methods: [POST], respond: {body: posted}}
      - {path: /api/v2, respond: {body: second}}
      - {exact: /api/v2, respond: {body: exact}}
  - hosts: [get.localhost]
    routes: [{path: /, methods: [GET, HEAD], respond: {body: got}}]
`, nil)
	for _, test := range []struct{ host, method, target, body, allowed string }{
		{"app.localhost", "GET", "/", "rest", ""}, {"app.localhost", "GET", "/apis", "rest", ""}, {"app.localhost", "GET", "/api", "api", ""},
		{"app.localhost", "POST", "/api/x", "posted", ""}, {"app.localhost", "POST", "/api/v2/x", "second", ""}, {"app.localhost", "GET", "/api/v2", "exact", ""},
		{"app.localhost", "GET", "/api/v2?x=/", "exact", ""}, {"get.localhost", "PUT", "/", "", "GET HEAD"}, {"get.localhost", "GET", "/x", "got", ""},
	} {
		site, _ := s.Hosts("").Site(test.host)
		path, err := paths.Parse(test.target, site.Paths)
		if err != nil {
			t.Fatal(err)
		}
		found, allowed := site.Route(test.method, &path, nil)
		body := ""
		if found != nil {
			body = found.Respond.Body
		}
		if body != test.body || found == nil && strings.Join(allowed, " ") != test.allowed {
			t.Errorf("%s %s%s is answered with %q, or allows %q", test.method, test.host, test.target, body, allowed)
		}
	}
}

// However many routes there are, and however a target is written: the index leaves out none that counts.
func TestTheIndexFindsWhatALookAtAllRoutesFinds(t *testing.T) {
	pieces := []string{"", "/", "/api", "/API", "/api/v2", "/api/v2/", "/apis", "/a;b", "/x.", "/caf\u00e9", "/admin", "/Admin/x", "/deep/er/path", "/.x"}
	for _, mode := range []string{"strict", "raw", "normalize", ""} {
		var text strings.Builder
		fmt.Fprintf(&text, "sites:\n  - hosts: [app.localhost]\n    routes:\n")
		if mode != "" {
			text.Reset()
			fmt.Fprintf(&text, "sites:\n  - hosts: [app.localhost]\n    paths: %s\n    routes:\n", mode)
		}
		for i, piece := range pieces {
			if piece != "" {
				fmt.Fprintf(&text, "      - {path: %q, to: \"127.0.0.1:1\", allow: [10.%d.0.0/16]}\n", piece, i)
			}
			if piece != "" && !strings.HasSuffix(piece, "/") {
				fmt.Fprintf(&text, "      - {exact: %q, methods: [POST], to: \"127.0.0.1:1\"}\n", piece)
			}
		}
		for i := range 300 {
			fmt.Fprintf(&text, "      - {path: /rule%d/, to: \"127.0.0.1:1\"}\n", i)
		}
		text.WriteString("      - {to: \"127.0.0.1:1\"}\n")
		site, _ := decided(t, text.String(), nil).Hosts("").Site("app.localhost")
		all := *site
		all.index = routeIndex{all: site.Routes}

		targets := []string{"*", "/%61pi/v2", "/api;x/v2", "/%2e/api", "/api/../admin", "/ADMIN", "/a%3bb", "//api", "/admin.", "/rule7", "/rule7/", "/rule7/x?q", "/rule299/x", "/nothing"}
		for _, piece := range pieces {
			for _, end := range []string{"", "/", "/x", "?q", ".", ";p", "%20", "x"} {
				targets = append(targets, "/"+strings.TrimPrefix(piece, "/")+end)
			}
		}
		for _, target := range targets {
			for _, method := range []string{"GET", "POST"} {
				path, err := paths.Parse(target, site.Paths)
				if err != nil {
					continue
				}
				route, allowed := site.Route(method, &path, nil)
				other, others := all.Route(method, &path, nil)
				if route != other || !slices.Equal(allowed, others) {
					t.Fatalf("%s %s %s: %v instead of %v", mode, method, target, route, other)
				}
				if route != nil && site.Ambiguous(method, &path, route, nil) != all.Ambiguous(method, &path, route, nil) {
					t.Errorf("%s %s %s is ambiguous for one of them", mode, method, target)
				}
			}
		}

		path, _ := paths.Parse("/rule299/x", site.Paths)
		at, seen := site.index.among(&path), 0
		for r := at.next(); r != nil; r = at.next() {
			seen++
		}
		if seen != 3 { // the one for it, and those for / and for everything
			t.Errorf("%s: of %d routes, %d are compared", mode, len(site.Routes), seen)
		}
	}
}

// Denied networks go before allowed ones, and whoever has no address is not let in where addresses count.
func TestAddressesAreAdmittedByTheLists(t *testing.T) {
	networks := func(texts ...string) (all []config.Network) {
		for _, text := range texts {
			var n config.Network
			if err := n.UnmarshalText([]byte(text)); err != nil {
				t.Fatal(err)
			}
			all = append(all, n)
		}
		return all
	}
	for _, test := range []struct {
		allow, deny []string
		client      string
		admitted    bool
	}{
		{nil, nil, "", true}, {nil, nil, "192.0.2.1", true}, {[]string{"10.0.0.0/8"}, nil, "10.1.2.3", true}, {[]string{"10.0.0.0/8"}, nil, "192.0.2.1", false},
		{nil, []string{"192.0.2.0/24"}, "192.0.2.1", false}, {nil, []string{"192.0.2.0/24"}, "10.0.0.1", true}, {nil, []string{"192.0.2.0/24"}, "", false},
		{[]string{"10.0.0.0/8"}, []string{"10.0.0.1"}, "10.0.0.1", false}, {[]string{"10.0.0.0/8"}, []string{"10.0.0.1"}, "10.0.0.2", true},
		{[]string{"2001:db8::/32"}, nil, "2001:db8::1", true}, {[]string{"10.0.0.0/8"}, nil, "::ffff:10.0.0.1", true},
	} {
		a := newAccess(&config.Access{Allow: networks(test.allow...), Deny: networks(test.deny...)}, "")
		client, _ := netip.ParseAddr(test.client)
		if got := a.Admits(client.Unmap()); got != test.admitted {
			t.Errorf("%q with allow %v and deny %v: %t", test.client, test.allow, test.deny, got)
		}
	}
}

// A name in a client's certificate counts only as what it is: whoever may choose a URI is not a host of that name.
func TestClientNamesAreOfTheirKind(t *testing.T) {
	uri, _ := url.Parse("spiffe://example.com/app")
	wanted := &config.ClientNames{
		Names:         []string{"app.example.com", "*.edge.example.com", "email:a@example.com", "uri:spiffe://example.com/app", "ip:10.0.0.1"},
		Organizations: []string{"Example Ltd"},
	}
	n := newClientNames(wanted)
	for _, test := range []struct {
		what        string
		certificate x509.Certificate
		matches     bool
	}{
		{"the host", x509.Certificate{DNSNames: []string{"APP.example.com"}}, true},
		{"below a wildcard", x509.Certificate{DNSNames: []string{"one.edge.example.com"}}, true},
		{"two labels below it", x509.Certificate{DNSNames: []string{"a.one.edge.example.com"}}, false},
		{"the wildcard's own name", x509.Certificate{DNSNames: []string{"edge.example.com"}}, false},
		{"the address for mail", x509.Certificate{EmailAddresses: []string{"a@example.com"}}, true},
		{"the URI", x509.Certificate{URIs: []*url.URL{uri}}, true},
		{"the address", x509.Certificate{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}, true},
		{"the organization", x509.Certificate{Subject: pkix.Name{Organization: []string{"Other", "Example Ltd"}}}, true},
		{"a host that is an organization", x509.Certificate{DNSNames: []string{"Example Ltd"}}, false},
		{"a host as an address for mail", x509.Certificate{EmailAddresses: []string{"app.example.com"}}, false},
		{"a host as a URI", x509.Certificate{URIs: []*url.URL{{Opaque: "app.example.com"}}}, false},
		{"an address as a host", x509.Certificate{DNSNames: []string{"10.0.0.1"}}, false},
		{"the common name alone", x509.Certificate{Subject: pkix.Name{CommonName: "app.example.com"}}, false},
		{"none", x509.Certificate{}, false},
	} {
		if got := n.match(&test.certificate); got != test.matches {
			t.Errorf("%s: %t", test.what, got)
		}
	}
}

// texts expands nothing, and leads nowhere.
type texts struct{}

func (texts) Expand(t template.Template) string { fixed, _ := t.Fixed(); return fixed }
func (texts) Location(*Redirect) (string, bool) { return "", false }

// Rules remove, then replace, then set, then add; with aliases also what passes for a name.
func TestHeaderRulesApplyInTheirOrder(t *testing.T) {
	cfg, err := config.Parse("padlock.yaml", []byte(`sites: [{hosts: [app.localhost], headers: {request: {
  remove: [X-Gone, X-Both], replace: {X-Text: {from: one, to: two}}, set: {X-Set: ours, X-Both: set}, add: {X-Set: more}}}}]`))
	if err != nil {
		t.Fatal(err)
	}
	rules := NewHeaderRules(&cfg.Sites[0].Fields)
	for aliases, want := range map[bool]string{
		false: "X_Gone: theirs; X-Text: two two; X_Set: theirs; Other: one; X-Set: ours; X-Both: set; X-Set: more",
		true:  "X-Text: two two; Other: one; X-Set: ours; X-Both: set; X-Set: more",
	} {
		fields := message.Fields{
			{Name: "X-Gone", Value: "theirs"}, {Name: "X_Gone", Value: "theirs"}, {Name: "X-Text", Value: "one one"}, {Name: "x-both", Value: "theirs"},
			{Name: "X-Set", Value: "theirs"}, {Name: "X_Set", Value: "theirs"}, {Name: "Other", Value: "one"},
		}
		rules.Request.Apply(texts{}, &fields, aliases)
		var got []string
		for _, f := range fields {
			got = append(got, f.Name+": "+f.Value)
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("aliases %t:\n%s\nwant\n%s", aliases, strings.Join(got, "; "), want)
		}
	}
	for name, owned := range map[string]bool{"x-gone": true, "X-Text": true, "X-Set": true, "X-Other": false, "X_Gone": false} {
		if rules.Request.Owns(name, false) != owned {
			t.Errorf("%s: owned is not %t", name, owned)
		}
	}
}

// A reload that changes nothing about a site keeps its policy, so that its connections stay; another CA, or another mode, makes another.
func TestPoliciesStayWhileTheyAreTheSame(t *testing.T) {
	ca, _ := servicetest.ClientCA(t)
	other, _ := servicetest.ClientCA(t)
	dir := t.TempDir()
	for name, content := range map[string][]byte{"ca.pem": ca, "other.pem": other} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := func(mode, ca, body string) string {
		return fmt.Sprintf("sites: [{hosts: [plain.localhost], routes: [{respond: {body: %s}}]}, {hosts: [app.localhost], tls: {client_auth: {mode: %s, ca: %q}}}]", body, mode, filepath.Join(dir, ca))
	}
	before := decided(t, file("require", "ca.pem", "one"), nil)
	policy := func(s *Snapshot, host string) *Policy { return s.Hosts("").Policy(s.Hosts("").Named(host)) }
	old := policy(before, "app.localhost")
	if old.Auth == nil || policy(before, "plain.localhost").Auth != nil || policy(before, "unknown.example").Auth != nil {
		t.Error("not the sites that ask do ask")
	}
	for _, test := range []struct {
		mode, ca string
		stays    bool
	}{{"require", "ca.pem", true}, {"request", "ca.pem", false}, {"require", "other.pem", false}} {
		after := decided(t, file(test.mode, test.ca, "two"), before)
		now := policy(after, "app.localhost")
		if (now == old) != test.stays || after.Has(old) != test.stays || policy(after, "plain.localhost") != policy(before, "plain.localhost") {
			t.Errorf("%s with %s: the policy stays: %t", test.mode, test.ca, now == old)
		}
		if successors := before.Successors(after)[old]; !slices.Equal(successors, []*Policy{now}) {
			t.Errorf("%s with %s: %v follow", test.mode, test.ca, successors)
		}
	}
	gone := decided(t, "sites: [{hosts: [plain.localhost]}]", before)
	if after, known := before.Successors(gone)[old]; !known || len(after) > 0 {
		t.Errorf("%v follow a policy whose host is gone", after)
	}
}
