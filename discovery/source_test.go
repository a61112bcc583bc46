package discovery

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"padlock/config"
)

// Whole sites of a source are what they would be in the file, whatever they do.
func TestWholeSitesAreThoseOfTheFile(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(page, []byte("page"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, site := range []string{
		"{hosts: [a.test, b.test], routes: [{to: 3000}]}",
		"{hosts: [a.test], routes: [{to: [3000, {target: 3001, weight: 3}], balance: least_conn}, {path: /api, to: 4000, strip_prefix: true}]}",
		"{hosts: [a.test], www: add, hsts: {max_age: 9000h}, paths: normalize, ignore_case: true, routes: [{to: 3000}]}",
		"{hosts: [a.test], http: off, errors: {502: 'http://pages:8080/{status}.html', 4xx: '" + page + "'}, intercept: [4xx], maintenance: {paths: [/up]}, inspect: {redact: true}, routes: [{to: 3000}, {path: /api, to: 4000}]}",
		"{hosts: [a.test], routes: [{redirect: {to: 'https://b.test{uri}'}}, {path: /off, respond: {status: 410}}]}",
		"{hosts: [a.test], allow: [10.0.0.0/8], tcp: {to: ['db:5432', 'db:5433'], proxy_protocol: v2}}",
	} {
		want := base(t, "sites: ["+site+"]").Sites
		standing := base(t, "docker: {domains: [elsewhere.test]}")
		merged, problems := Find(Owner{Kind: "app", Name: "a", Sites: base(t, "sites: ["+site+"]").Sites}).Merge(standing, nil)
		if len(problems) > 0 || !reflect.DeepEqual(merged.Sites, want) {
			t.Errorf("%s: %v\n%+v\nwant\n%+v", site, problems, merged.Sites, want)
		}
	}
}

// A setting of sites that is added later must reach what a source finds, or be a problem: none is lost without a word.
func TestNoSettingOfAWholeSiteIsLost(t *testing.T) {
	// Another field is either said by each owner, and merged in join, or refused by sharable.
	known := []string{"Hosts", "TLS", "WWW", "HTTP", "HSTS", "Access", "Compress", "CORS", "SecurityHeaders", "Inspect", "Paths", "NoCase", "Fields", "Errors", "Intercept", "Maintenance", "Routes", "Listen", "TCP"}
	site := reflect.TypeFor[config.Site]()
	for i := range site.NumField() {
		if name := site.Field(i).Name; !slices.Contains(known, name) {
			t.Errorf("config.Site.%s: give it to partsOf and join, or have sharable refuse it, and add it here", name)
		}
	}
}

// What a site says of all its routes is not dropped without a word: its owner is not served.
func TestASiteWithRulesForAllItsRoutesIsAProblem(t *testing.T) {
	for _, rule := range []string{"allow: [10.0.0.0/8]", "headers: {request: {remove: [X-A]}}", "listen: ['127.0.0.1:8443']", "tls: {legacy_rsa_key_exchange: true}"} {
		sites := base(t, "sites: [{hosts: [a.test], "+rule+", routes: [{to: 3000}]}]").Sites
		merged, problems := Find(Owner{Kind: "app", Name: "a", Sites: sites}).Merge(base(t, "docker: on"), nil)
		if len(merged.Sites) > 0 || len(problems) != 1 || problems[0].Owner != "a" {
			t.Errorf("%s: %d sites, %+v", rule, len(merged.Sites), problems)
		}
	}
}

// Owners of one route share it; one that would open what an older one has closed is left out, by its kind and name.
func TestOwnersOfOneRouteShareIt(t *testing.T) {
	owned := func(name string, ago time.Duration, route string) Owner {
		sites := base(t, "sites: [{hosts: [a.test], routes: ["+route+"]}]").Sites
		return Owner{Kind: "app", Name: name, Created: time.Now().Add(-ago), Sites: sites}
	}
	found := Find(owned("new", 0, "{to: 3001}"), owned("old", time.Hour, "{to: 3000}"))
	merged, problems := found.Merge(base(t, "docker: on"), nil)
	if want := base(t, "sites: [{hosts: [a.test], routes: [{to: [3000, 3001]}]}]").Sites; len(problems) > 0 || !reflect.DeepEqual(merged.Sites, want) {
		t.Errorf("%v\n%+v", problems, merged.Sites)
	}

	found = Find(owned("new", 0, "{to: 3001}"), owned("old", time.Hour, "{to: 3000, allow: [10.0.0.0/8]}"))
	merged, problems = found.Merge(base(t, "docker: on"), nil)
	want := base(t, "sites: [{hosts: [a.test], routes: [{to: 3000, allow: [10.0.0.0/8]}]}]").Sites
	if !reflect.DeepEqual(merged.Sites, want) || len(problems) != 1 || problems[0].Owner != "new" || !strings.Contains(problems[0].Message, "app old, which serves the same requests and is older") {
		t.Errorf("%+v\n%+v", problems, merged.Sites)
	}
}

// A wildcard of a source that goes first keeps its names, whatever docker.override lets containers have.
func TestAWildcardOfAnEarlierSourceKeepsItsNames(t *testing.T) {
	standing := base(t, `{docker: {override: ["*.localhost"]}, sites: [{hosts: ["*.localhost"], routes: [{to: 3000}]}]}`)
	first := Find(Owner{Kind: "app", Name: "wide", Sites: base(t, "sites: [{hosts: ['*.other.localhost'], routes: [{to: 3001}]}]").Sites})
	sources := []Source{New(&config.Docker{Endpoint: "unix:///one"}, nil), New(&config.Docker{Endpoint: "unix:///two"}, nil)}
	merged, problems := Merge(standing, sources, []*Found{first, looked(labelled("host=a.other.localhost,b.localhost"))}, nil)
	if len(problems[0]) > 0 || len(problems[1]) != 1 || !strings.Contains(problems[1][0].Message, "a.other.localhost is covered by *.other.localhost, a site of the container engine unix:///one, which goes first") {
		t.Errorf("%+v", problems)
	}
	if last := merged.Sites[len(merged.Sites)-1]; last.Hosts[0] != "b.localhost" {
		t.Errorf("%+v", last.Hosts)
	}
}
