package netname

import "testing"

func TestAWildcardStandsForOneLabel(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		matches       bool
	}{
		{"app.example.com", "app.example.com", true}, {"App.example.com", "app.EXAMPLE.com", true}, {"app.example.com", "example.com", false},
		{"*.example.com", "app.example.com", true}, {"*.EXAMPLE.com", "APP.example.com", true}, {"*.example.com", "a.app.example.com", false},
		{"*.example.com", "example.com", false}, {"*.example.com", "*.example.com", true}, {"*.com", "example.com", true}, {"*.", "localhost", false},
		{"*", "localhost", false}, {"localhost", "localhost", true}, {"", "", true}, {"*.localhost", "localhost", false},
	} {
		if got := Match(test.pattern, test.name); got != test.matches {
			t.Errorf("%s for %s: %t", test.pattern, test.name, got)
		}
	}
}

func TestTheMostSpecificPatternCovers(t *testing.T) {
	all := map[string]bool{"app.example.com": true, "*.example.com": true}
	for name, want := range map[string]string{
		"app.example.com": "app.example.com", "other.example.com": "*.example.com", "a.other.example.com": "", "*.example.com": "*.example.com", "localhost": "", "": "",
	} {
		if got := Covering(all, name); got != want {
			t.Errorf("%s is covered by %q, not %q", name, got, want)
		}
	}
	all["*"] = true
	for name, want := range map[string]string{"app.example.com": "app.example.com", "localhost": "*", "a.b.example.com": "*"} {
		if got := Covering(all, name); got != want {
			t.Errorf("%s is covered by %q, not %q", name, got, want)
		}
	}
}
