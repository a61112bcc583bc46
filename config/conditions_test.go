package config

import (
	"regexp/syntax"
	"strings"
	"testing"
)

// A short regular expression that stands for a long one is refused; those that people write are not.
func TestShortRegularExpressionsMayBeLarge(t *testing.T) {
	for text, large := range map[string]bool{
		`^/users/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`: false, `.{1000}`: false, strings.Repeat("a", maxMatch): false, `(?i)\.(jpe?g|png|svg)$`: false,
		`[\pL\pN]+`: false, `.{1000}.{1000}`: true, `(.{100}){10}.{1000}`: true, `(a{1,30}b){30,}`: false, `(a{1,30}bc{30}){30,}`: true, strings.Repeat(`[\pL\d]{1000}`, 38): true,
	} {
		parsed, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		if got := partsOf(parsed); (got > maxParts) != large {
			t.Errorf("%.40s: %d", text, got)
		}
		v := &validator{}
		v.conditions("route", &Site{}, &Conditions{Match: text})
		if (len(v.errs) > 0) != large {
			t.Errorf("%.40s: %v", text, v.errs)
		}
	}
	if reason := (&Certificates{}).Unobtainable("wildcard_.example.com"); !strings.Contains(reason, "wildcards in the storage") {
		t.Error(reason)
	}
}
