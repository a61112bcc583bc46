package discovery

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"padlock/config"
)

// merge is what containers, in the order in which they were made, add to a file; and all that is said about it.
func merge(t *testing.T, file string, accept func(*config.Config) error, lines ...string) ([]config.Site, string) {
	t.Helper()
	var containers []map[string]string
	for _, line := range lines {
		containers = append(containers, labelled(line))
	}
	before := base(t, file)
	standing := base(t, file)
	found := looked(containers...)
	merged, problems := found.Merge(standing, accept)
	if !reflect.DeepEqual(standing, before) {
		t.Error("the configuration that sites were added to has changed")
	}
	if again, told := found.Merge(standing, accept); !reflect.DeepEqual(again, merged) || !slices.Equal(told, problems) {
		t.Error("the same containers give another configuration the second time")
	}
	var all []string
	for _, p := range problems {
		all = append(all, p.Owner+" "+p.Error())
	}
	return merged.Sites[len(before.Sites):], strings.Join(all, "\n")
}

func TestContainersOfOneHostAndPathShareItsRequests(t *testing.T) {
	sites, told := merge(t, "docker: on", nil, "host=app.test,www.app.test", "host=www.app.test,app.test", "path=/api", "path=/api weight=2", "host=other.test")
	want := base(t, `sites:
  - {hosts: [app.test], routes: [{to: [10.0.0.2:8080, 10.0.0.3:8080]}, {path: /api, to: [10.0.0.4:8080, {target: 10.0.0.5:8080, weight: 2}]}]}
  - {hosts: [other.test], routes: [{to: 10.0.0.6:8080}]}
  - {hosts: [www.app.test], routes: [{to: [10.0.0.2:8080, 10.0.0.3:8080]}]}`).Sites
	if told != "" || !reflect.DeepEqual(sites, want) {
		t.Errorf("%s\n%+v", told, sites)
	}
}

func TestHostsThatTheSameContainersAskForAreOneSite(t *testing.T) {
	sites, told := merge(t, "docker: on", nil, "host=app.test,www.app.test www=remove", "host=app.test,www.app.test www=remove")
	want := base(t, "sites: [{hosts: [app.test, www.app.test], www: remove, routes: [{to: [10.0.0.2:8080, 10.0.0.3:8080]}]}]").Sites
	if told != "" || !reflect.DeepEqual(sites, want) {
		t.Errorf("%s\n%+v", told, sites)
	}
}

// A container cannot have another's requests served without TLS.
func TestOfContainersOfOneHostTheSafestSaysWhatPlainHTTPDoes(t *testing.T) {
	file := "docker: on\nlisten: {http: [':80']}"
	for _, c := range []struct{ one, other, want string }{
		{"http=serve", "path=/b", ""}, {"path=/b", "http=serve", ""}, {"http=serve", "path=/b http=serve", "serve"}, {"http=redirect", "path=/b http=off", "off"},
	} {
		sites, told := merge(t, file, nil, c.one, c.other)
		if told != "" || len(sites) != 1 || sites[0].HTTP != c.want {
			t.Errorf("%s, %s: %s\n%+v", c.one, c.other, told, sites)
		}
	}
}

func TestTheNewestContainerOfARouteSaysHow(t *testing.T) {
	sites, told := merge(t, "docker: on", nil, "balance=random", "balance=least_conn body_limit=1MiB")
	want := base(t, "sites: [{hosts: [app.test], routes: [{balance: least_conn, body_limit: 1MiB, to: [10.0.0.2:8080, 10.0.0.3:8080]}]}]").Sites
	if !reflect.DeepEqual(sites, want) || told != "a padlock.balance: container b, which serves the same requests and is newer, says otherwise; that counts for both" {
		t.Errorf("%s\n%+v", told, sites)
	}
}

func TestTheConfigurationsOwnSitesGoFirst(t *testing.T) {
	file := "docker: on\nsites: [{hosts: [app.test, '*.app.test'], www: add, routes: [{to: 3000}]}]"
	file = strings.Replace(file, ", '*.app.test'", "", 1)
	sites, told := merge(t, file, nil, "host=app.test,extra.test path=/x", "host=www.app.test")
	want := base(t, "sites: [{hosts: [extra.test], routes: [{path: /x, to: 10.0.0.2:8080}]}]").Sites
	if !reflect.DeepEqual(sites, want) || told != "a padlock.host: app.test is a site of padlock's own configuration, which goes first\nb padlock.host: www.app.test is a site of padlock's own configuration, which goes first" {
		t.Errorf("%s\n%+v", told, sites)
	}
}

// A container takes no name that a site of the file covers, in whatever form it is written, unless the file lets it; and never one that stands there by
// itself. What nobody covers it has.
func TestAContainerTakesNoNameThatTheFileCovers(t *testing.T) {
	guarded := "sites: [{hosts: ['*.corp.test', a.b.test], basic_auth: {users: {alice: '" + hash + "'}}, routes: [{to: 3000}]}]\n"
	for _, c := range []struct{ file, labels, hosts, told string }{
		{"docker: on\n", "host=admin.corp.test", "", "host: admin.corp.test is covered by *.corp.test, a site of padlock's own"},
		{"docker: on\n", "host=ADMIN.Corp.test.", "", "host: admin.corp.test is covered by *.corp.test"},
		{"docker: on\n", "host=xn--mnchen-3ya.corp.test", "", "is covered by *.corp.test"},
		{"docker: on\n", "host=admin.corp.test tcp=true", "", "is covered by *.corp.test"},
		{"docker: on\n", "host=admin.corp.test tcp=true tcp.passthrough=true", "", "is covered by *.corp.test"},
		{"docker: on\n", "host=admin.corp.test,free.test", "free.test", "is covered by *.corp.test"},
		{"docker: on\n", "host=free.test routes.x.host=admin.corp.test", "free.test", "padlock.routes.x.host: admin.corp.test is covered by"},
		{"docker: on\n", "host=corp.test www=add", "", "www: www.corp.test is covered by *.corp.test"},
		{"docker: on\n", "host=www.a.b.test www=remove", "", "www: a.b.test is a site of padlock's own configuration"},
		{"docker: on\n", "host=*.corp.test", "", "host: *.corp.test is a site of padlock's own configuration"},
		{"docker: on\n", "host=corp.test", "corp.test", ""},
		{"docker: on\n", "host=a.b.corp.test", "a.b.corp.test", ""},
		{"docker: on\n", "host=*.x.corp.test", "*.x.corp.test", ""},
		{"docker: on\n", "host=*.b.test", "*.b.test", ""}, // but a.b.test stays the file's
		{"docker: on\n", "host=*", "*", ""},
		{"docker: {override: ['*.Corp.test']}\n", "host=admin.corp.test", "admin.corp.test", ""},
		{"docker: {override: ['*.corp.test']}\n", "host=corp.test www=add", "corp.test www.corp.test", ""},
		{"docker: {override: ['*.corp.test']}\n", "host=*.corp.test", "", "is a site of padlock's own configuration"},
		{"docker: {override: ['*.corp.test']}\n", "host=a.b.test", "", "is a site of padlock's own configuration"},
		{"docker: {override: ['*.corp.test'], domains: [other.test]}\n", "host=admin.corp.test", "", "is not in docker.domains"},
	} {
		sites, told := merge(t, c.file+guarded, nil, c.labels)
		var hosts []string
		for _, s := range sites {
			hosts = append(hosts, s.Hosts...)
		}
		if strings.Join(hosts, " ") != c.hosts || !strings.Contains(told, c.told) || c.told == "" && told != "" {
			t.Errorf("%s%s: %v, %s", c.file, c.labels, hosts, told)
		}
	}
	for file, want := range map[string]string{"docker: on": "", "docker: {override: ['*']}": "free.test"} {
		sites, told := merge(t, file+"\nsites: [{hosts: ['*']}]", nil, "host=free.test")
		if (len(sites) == 1) != (want != "") || (told == "") != (want != "") {
			t.Errorf("%s, beside the site of all names: %+v, %s", file, sites, told)
		}
	}
}

func TestNamesOutsideTheDomainsAreRefused(t *testing.T) {
	sites, told := merge(t, "docker: {domains: [Apps.test]}", nil, "host=a.apps.test,apps.test,*.x.apps.test", "host=badapps.test", "host=*")
	if len(sites) != 1 || !slices.Equal(sites[0].Hosts, []string{"a.apps.test", "apps.test", "*.x.apps.test"}) ||
		!strings.Contains(told, "b padlock.host: badapps.test is not in docker.domains: apps.test") || !strings.Contains(told, "c padlock.host: * is not in") {
		t.Errorf("%s\n%+v", told, sites)
	}
}

func TestTCPAndHTTPDoNotShareAName(t *testing.T) {
	sites, told := merge(t, "docker: on", nil, "tcp=true", "path=/", "tcp=true")
	want := base(t, "sites: [{hosts: [app.test], tcp: {to: [10.0.0.2:8080, 10.0.0.4:8080]}}]").Sites
	if !reflect.DeepEqual(sites, want) || told != "b padlock.host: container a forwards TCP under the same name" {
		t.Errorf("%s\n%+v", told, sites)
	}
}

// Two containers may be right each by itself and wrong together, and a name may be one for which there is no certificate.
func TestWhatCannotBeServedIsLeftOutAndNothingElse(t *testing.T) {
	sites, told := merge(t, "docker: on", nil, "host=www.app.test", "host=app.test www=add", "host=other.test")
	if len(sites) != 2 || sites[0].Hosts[0] != "other.test" || sites[1].Hosts[0] != "www.app.test" ||
		told != "b padlock.host: cannot be served beside the others: another site: www.app.test already stands at another site: keep one of them, and put the routes together" {
		t.Errorf("%s\n%+v", told, sites)
	}
	accept := func(cfg *config.Config) error {
		for _, s := range cfg.Sites {
			if slices.Contains(s.Hosts, "b.test") {
				return errors.New("no certificate for b.test")
			}
		}
		return nil
	}
	sites, told = merge(t, "docker: on", accept, "host=a.test", "host=b.test", "host=c.test")
	if len(sites) != 2 || sites[0].Hosts[0] != "a.test" || sites[1].Hosts[0] != "c.test" || told != "b padlock.host: cannot be served beside the others: no certificate for b.test" {
		t.Errorf("%s\n%+v", told, sites)
	}
	sites, told = merge(t, "docker: on\nsites: [{hosts: [b.test]}]", accept, "host=a.test")
	if len(sites) != 0 || told != "" {
		t.Errorf("containers are told of what is not their doing: %s\n%+v", told, sites)
	}
}

func TestAContainerThatWasToldToStopGetsNothingNewWhileThereIsAnother(t *testing.T) {
	targets := func(leaving ...int) (to []string) {
		found := looked(labelled("path=/"), labelled("path=/"))
		for _, i := range leaving {
			found.owners[i].leaving = true
		}
		merged, _ := found.Merge(base(t, "docker: on"), nil)
		for _, b := range merged.Sites[0].Routes[0].To {
			to = append(to, b.Target.Address)
		}
		return to
	}
	if got := targets(0); !slices.Equal(got, []string{"10.0.0.3:8080"}) {
		t.Errorf("%v", got)
	}
	if got := targets(0, 1); !slices.Equal(got, []string{"10.0.0.2:8080", "10.0.0.3:8080"}) {
		t.Errorf("the last of them: %v", got)
	}
	w := New(&config.Docker{}, nil)
	kill := func(action, signal string) {
		e := event{Type: "container", Action: action}
		e.Actor.ID, e.Actor.Attributes = "id", map[string]string{"signal": signal}
		w.note(e)
	}
	for _, step := range []struct {
		action, signal string
		leaving        bool
	}{{"kill", "1", false}, {"kill", "15", true}, {"kill", "10", true}, {"die", "", false}, {"kill", "9", true}, {"start", "", false}} {
		if kill(step.action, step.signal); w.isLeaving("id") != step.leaving {
			t.Errorf("after %s %s: %v", step.action, step.signal, !step.leaving)
		}
	}
}

func TestContainersThatAreNotHealthyWait(t *testing.T) {
	for status, served := range map[string]bool{"starting": false, "unhealthy": false, "healthy": true, "none": true} {
		about := &inspected{ID: "aaaaaaaaaaaa", Name: "/a"}
		about.Config.Labels, about.Config.ExposedPorts = labelled("port=80"), nil
		about.State.Health = &struct{ Status string }{status}
		about.NetworkSettings.Networks = map[string]*attachment{"front": {NetworkID: "id", IPAddress: "10.0.0.2"}}
		found := &Found{}
		New(&config.Docker{}, nil).add(found, &place{}, about, about)
		if (len(found.owners) == 1) != served || !served && (len(found.problems) != 1 || !found.problems[0].Waiting || !strings.Contains(found.problems[0].Message, status)) {
			t.Errorf("%s: %+v", status, found)
		}
	}
}
