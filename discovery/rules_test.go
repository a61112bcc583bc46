package discovery

import (
	"strings"
	"testing"
)

// Whoever may start a container cannot take rules away that another one has for the same requests: the older one stays as it is.
func TestNoContainerOpensWhatAnotherHasClosed(t *testing.T) {
	t.Parallel()
	auth := "basic_auth.users=alice:" + hash
	for _, c := range []struct {
		older, newer string
		shared       bool // both are served
		label        string
	}{
		{"allow=10.9.9.9", "port=8080", false, "padlock.allow"},
		{"allow=10.9.9.9", "allow=0.0.0.0/0", false, "padlock.allow"},
		{"deny=10.9.9.9", "port=8080", false, "padlock.deny"},
		{auth, "port=8080", false, "padlock.basic_auth.users"},
		{auth, auth + " basic_auth.realm=x", false, "padlock.basic_auth.realm"},
		{"port=8080", "allow=10.9.9.9", false, "padlock.allow"},
		{"access=staff", "port=8080", false, "padlock.access"},
		{"access=staff", "access=others", false, "padlock.access"},
		{"rate_limit.requests=5 rate_limit.per=1m", "rate_limit.requests=500 rate_limit.per=1m", false, "padlock.rate_limit.requests"},
		{"access=staff", "access=staff", true, ""},
		{"allow=10.9.9.9 path=/x", "path=/x", false, "padlock.allow"},
		{"routes.x.path=/x routes.x.allow=10.9.9.9", "path=/x", false, "padlock.allow"},
		{"tcp=true allow=10.9.9.9", "tcp=true", false, "padlock.allow"},
		{"host=app.test,b.test allow=10.9.9.9", "host=b.test", false, "padlock.allow"},
		{"allow=10.9.9.9", "allow=10.9.9.9 balance=random", true, ""},
		{"allow=10.9.9.9", "path=/x", true, ""},
		{"host=a.test allow=10.9.9.9", "host=b.test", true, ""},
	} {
		const file = "docker: {access: [{name: staff, deny: 10.9.9.8}, {name: others, deny: 10.9.9.7}]}"
		alone, _ := merge(t, file, nil, c.older)
		sites, told := merge(t, file, nil, c.older, c.newer)
		targets, served := "", false
		for _, site := range sites {
			for _, route := range site.Routes {
				for _, to := range route.To {
					served = served || strings.Contains(to.Target.String(), "10.0.0.3")
				}
			}
			if site.TCP != nil {
				for _, to := range site.TCP.To {
					served = served || strings.Contains(to.Target.String(), "10.0.0.3")
				}
			}
		}
		if served != c.shared || len(alone) == 0 {
			t.Errorf("%s, then %s: the newer is served: %v (%s) %s", c.older, c.newer, served, targets, told)
		}
		if !c.shared && (!strings.Contains(told, "b "+c.label+": container a, which serves the same requests and is older") || len(sites) != len(alone)) {
			t.Errorf("%s, then %s: %s, %+v", c.older, c.newer, told, sites)
		}
	}
}

// A label that differs from one of padlock's by the case of its prefix keeps its container out, as unknown ones do.
func TestALabelInAnotherCaseIsNotPassedOver(t *testing.T) {
	t.Parallel()
	for _, label := range []string{"Padlock.allow", "PADLOCK.deny", "padLock.routes.x.allow"} {
		labels := labelled("port=8080")
		labels[label] = "10.9.9.9"
		if _, problems := read(&owner{name: "a"}, labels); len(problems) != 1 || problems[0].Label != label || !strings.Contains(problems[0].Remedy, "write padlock.") {
			t.Errorf("%s: %+v", label, problems)
		}
		if found := looked(labels); len(found.owners) != 0 || len(found.problems) != 1 {
			t.Errorf("%s: served: %+v, %+v", label, found.owners, found.problems)
		}
	}
	if !wants(map[string]string{"Padlock.host": "a.test"}) {
		t.Error("a container whose only label has another case is passed over")
	}
}

// Of the rules that a container names and those of its labels, neither takes the place of the other, and a name that
// nothing has keeps it out, with all of its routes.
func TestRulesOfTheFileAreChosenByName(t *testing.T) {
	t.Parallel()
	const file = "docker: {access: [{name: staff, allow: 10.0.0.0/8}, {name: slow, rate_limit: {requests: 9, per: 1m}}]}"
	for line, want := range map[string]string{
		"access=nobody":                     `"nobody" is none of the rules in docker.access: staff, slow`,
		"access=Staff":                      `"Staff" is none of the rules`,
		"access=staff,slow":                 `"staff,slow" is none of the rules`,
		"access=staff allow=0.0.0.0/0":      "staff has allow too, and so have other labels of this route",
		"access=slow rate_limit.requests=9": "slow has rate_limit too",
		"port=80 routes.x.path=/x routes.x.port=81 routes.x.access=nobody": `padlock.routes.x.access: "nobody" is none of the rules`,
	} {
		sites, told := merge(t, file, nil, line)
		if len(sites) > 0 || !strings.Contains(told, want) {
			t.Errorf("%s: %s\n%+v", line, told, sites)
		}
	}

	sites, told := merge(t, file, nil, "access=slow", "access=slow", "access=staff path=/x")
	if told != "" || len(sites) != 1 || len(sites[0].Routes) != 2 || sites[0].Routes[0].Access.RateLimit == nil || len(sites[0].Routes[1].Access.Allow) != 1 {
		t.Errorf("%s\n%+v", told, sites)
	}
}
