package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// renamedPlaces are files with some keys of a structure, by the structure.
var renamedPlaces = map[reflect.Type][]string{
	reflect.TypeFor[Config]():   {"{%s, sites: [{hosts: [app.test], routes: [{to: 3000}]}]}"},
	reflect.TypeFor[Timeouts](): {"{timeouts: {%s}, sites: [{hosts: [app.test], routes: [{to: 3000}]}]}"},
	reflect.TypeFor[Limits]():   {"{limits: {%s}, sites: [{hosts: [app.test], routes: [{to: 3000}]}]}"},
	reflect.TypeFor[Upstream](): {
		"{sites: [{hosts: [app.test], routes: [{to: 3000, %s}]}]}",
		"{sites: [{hosts: [app.test], tcp: {to: [db:5432], %s}}]}",
	},
}

// Every key that had another name means under that what it means under the present one, and a warning has the line, the old name and the
// present one. Under both names it is an error.
func TestRenamedKeysWorkAndWarn(t *testing.T) {
	for in, keys := range renamed {
		if len(renamedPlaces[in]) == 0 {
			t.Errorf("no file for keys of %s", in.Name())
		}
		for old, now := range keys {
			_, field, ok := fieldOf(in, now.key)
			if !ok {
				t.Errorf("%s.%s is renamed to %s, which there is not", in.Name(), old, now.key)
				continue
			}
			values := now.values
			if values == nil {
				example := exampleOf(in, field)
				values = map[string]string{example: example}
			}
			for _, file := range renamedPlaces[in] {
				for before, value := range values {
					t.Run(old+" "+before, func(t *testing.T) { renamedKey(t, file, old, before, now.key, value) })
				}
			}
		}
	}
}

func renamedKey(t *testing.T, file, old, before, now, value string) {
	underOld, underNew := old+": "+before, now+": "+value
	want, err := Parse("padlock.yaml", fmt.Appendf(nil, file, underNew))
	if err != nil {
		t.Fatal(err)
	}
	var warnings []Error
	got, err := parse("padlock.yaml", fmt.Appendf(nil, file, underOld), func(e Error) { warnings = append(warnings, e) })
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s is\n%+v, %v\nand %s is\n%+v", underOld, got, err, underNew, want)
	}
	if len(warnings) != 1 || warnings[0].Line == 0 || !strings.HasSuffix(warnings[0].Path, old) || !strings.Contains(warnings[0].Message, "is now "+now) {
		t.Errorf("the warnings are %v", warnings)
	}

	for _, both := range []string{underOld + ", " + underNew, underNew + ", " + underOld} {
		_, err := Parse("padlock.yaml", fmt.Appendf(nil, file, both))
		var wrong Errors
		if !errors.As(err, &wrong) || len(wrong) != 1 || !strings.Contains(wrong[0].Message, "is given twice") || !strings.Contains(wrong[0].Message, old) {
			t.Errorf("%s: %v", both, err)
		}
	}
}

// The old names of routes' keys are those of labels too.
func TestRenamedKeysOfRoutesAreThoseOfLabels(t *testing.T) {
	for label, want := range map[string]string{"passive": "passive_health", "passive.failures": "passive_health.failures", "passive_health": "", "path": "", "": ""} {
		if now, was := RenamedOfRoute(label); now != want || was != (want != "") {
			t.Errorf("%q is now %q, %t", label, now, was)
		}
	}
}

// The file on the disk is read with the same warnings as its content.
func TestLoadingWarnsOfRenamedKeys(t *testing.T) {
	name := filepath.Join(t.TempDir(), "padlock.yaml")
	if err := os.WriteFile(name, []byte("timeouts: {stall: 5s}\nsites: [{hosts: [app.test], routes: [{to: 3000}]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var warnings Errors
	if _, err := Load(name, nil, func(e Error) { warnings = append(warnings, e) }); err != nil {
		t.Fatal(err)
	}
	want := name + ":1:12: timeouts.stall: is now body_idle; write that, as the next release does not read the old name"
	if warnings.Error() != want {
		t.Errorf("%s\nwant\n%s", warnings, want)
	}
}
