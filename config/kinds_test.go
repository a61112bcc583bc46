package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// wrongKinds are values of the three kinds that YAML has.
var wrongKinds = []struct{ kind, value string }{
	{"scalar", "sideways"}, {"scalar", "true"}, {"list", "[sideways, 7]"}, {"list", "[{sideways: 7}]"}, {"mapping", "{sideways: 7}"}, {"empty list", "[]"},
}

// goType finds what only somebody who reads this code could understand.
var goType = regexp.MustCompile(`\b(config\.|reflect\.|time\.|netip\.|\[\]|map\[|int64|float64|uint|struct|!!|yaml\.)`)

// kinds are those that a type takes.
func kinds(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	text := reflect.PointerTo(t).Implements(textType)
	switch {
	case t == fieldsType || t == replaceType || t.Kind() == reflect.Map:
		return []string{"mapping"}
	case t.Kind() == reflect.Struct && hasKeys(t) && text:
		return []string{"scalar", "mapping"}
	case t.Kind() == reflect.Struct && hasKeys(t):
		return []string{"mapping"}
	case t.Kind() == reflect.Slice:
		if item := kinds(t.Elem()); slices.Contains(item, "scalar") {
			return []string{"scalar", "list"}
		}
		return []string{"list"}
	}
	return []string{"scalar"}
}

// Whatever kind of value a key gets in the place of the one that it takes, the error names the key and its line, says what the key takes, and
// has an example that the key does take.
func TestEveryKeySaysWhatItTakes(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	looked := 0
	every(reflect.TypeFor[Config](), "", func(path string, field reflect.Type) {
		takes := kinds(field)
		keys := strings.Split(path, ".")
		key := keys[len(keys)-1]
		for _, wrong := range wrongKinds {
			if slices.Contains(takes, strings.TrimPrefix(wrong.kind, "empty ")) {
				continue
			}
			looked++
			file := "# a line\n" + nested(keys, wrong.value)
			_, err := Parse("padlock.yaml", []byte(file))
			var all Errors
			errors.As(err, &all)
			at := slices.IndexFunc(all, func(e Error) bool { return strings.TrimRight(withoutIndexes(e.Path), ".") == path })
			if at < 0 {
				t.Errorf("%s: %s is taken as it is: %v", path, wrong.value, err)
				continue
			}
			e := all[at]
			said := strings.Contains(e.Message, "such as "+key+": ")
			if e.Line != 2 || !strings.HasPrefix(e.Message, "must be ") || !said || goType.MatchString(strings.ReplaceAll(e.Message, wrong.value, "")) {
				t.Errorf("%s given %s:\n%v", path, wrong.value, e)
			}
			if strings.Contains(e.Message, "true} meant?") {
				t.Errorf("%s: nobody means that:\n%v", path, e)
			}
		}
	})
	if looked < 500 {
		t.Errorf("only %d values of a wrong kind were looked at", looked)
	}
}

// An example that an error gives is taken by its key, and by what checks the key afterwards.
func TestExamplesOfKeysAreTaken(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	t.Chdir(t.TempDir())
	every(reflect.TypeFor[Config](), "", func(path string, _ reflect.Type) {
		keys := strings.Split(path, ".")
		written := pathIn(keys)
		found, ok := schemaAt(written)
		if !ok || found.example == "" || found.key != keys[len(keys)-1] {
			t.Errorf("%s: no example: %+v", path, found)
			return
		}
		_, err := Parse("padlock.yaml", []byte(nested(keys, found.example)))
		var all Errors
		errors.As(err, &all)
		for _, e := range all {
			inside := strings.HasPrefix(e.Path, written) && !strings.HasPrefix(strings.TrimPrefix(e.Path, written), "_")
			beside := regexp.MustCompile(`no such file|goes with|go together|is missing|needs|are for HTTP|is for HTTP|file exists|at least one|does not say|say so with|no site has|ask for include_subdomains|bcrypt`).MatchString(e.Message)
			if inside && !beside {
				t.Errorf("%s: %s is not taken: %v", path, found.example, e)
			}
		}
	})
}

// pathIn is the path of keys below the lists that nested makes.
func pathIn(keys []string) string {
	path := ""
	for i, key := range keys {
		path = strings.TrimPrefix(path+"."+key, ".")
		if i < len(keys)-1 && isList(keys, i) {
			path += "[0]"
		}
	}
	return path
}

// Items of lists, and values below free keys, are no exception.
func TestItemsSayWhatTheirListTakes(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"sites: [app]", "1:9: sites[0]: must be a mapping of keys to values (hosts, tls, www, …), such as sites: [{hosts: [app.example.com], routes: [{to: 3000}]}], and is \"app\""},
		{"sites: [{hosts: [[a.test]]}]", "1:18: sites[0].hosts[0]: must be a single value, such as hosts: [app.example.com], and is a list: write a.test without [ ] and -"},
		{"sites: [{hosts: [{a: b}]}]", "1:18: sites[0].hosts[0]: must be a single value, such as hosts: [app.example.com], and is a mapping of keys to values"},
		{"sites: [{hosts: {a: b}}]", "1:17: sites[0].hosts: must be a list, such as hosts: [app.example.com], and is a mapping of keys to values"},
		{"sites: [{routes: [{to: [[3000]]}]}]", "1:25: sites[0].routes[0].to[0]: must be a target, or a mapping of keys to values, such as to: [3000], and is a list: write 3000 without [ ] and -"},
		{"sites: [{routes: [{headers: {request: {set: {X: {a: b}}}}}]}]", "sites[0].routes[0].headers.request.set.X: must be a list, such as set: {X-Site: app}, and is a mapping of keys to values"},
		{"sites: [{basic_auth: {users: {anna: [x]}}}]", "sites[0].basic_auth.users.anna: must be a single value, such as users: {anna: \"$2y$10$…\"}, and is a list"},
		{"sites: [{routes: [{headers: {request: {replace: {X: y}}}}]}]", "headers.request.replace.X: must be a mapping of from and to, or a list of these, such as replace: {Location: {from: http://, to: https://}}, and is \"y\""},
		{"admin: {token_file: [a]}", "1:21: admin.token_file: must be a single value, such as token_file: /run/secrets/token, and is a list: write a without [ ] and -"},
		{"admin: true", `1:8: admin: "true" must be off, an address or unix:PATH: padlock always has an admin endpoint, on a socket in its storage directory, so leave the key out; for browsers and Prometheus, write admin: 127.0.0.1:2020`},
		{"admin: {listen: 127.0.0.1:2020}", "1:9: admin.listen: unknown key; did you mean address?"},
		{"admin: {port: 2020}", "1:9: admin.port: unknown key; did you mean address?"},
		{"admin: [127.0.0.1:2020]", "1:8: admin: must be off, an address, unix:PATH, or a mapping of keys to values, such as admin: {address: 127.0.0.1:2020}, and is a list: write 127.0.0.1:2020 without [ ] and -"},
		{"docker: off", `1:9: docker: "off" must be on, the engine's endpoint, or a mapping of keys to values: to look for no containers, leave docker out`},
		{"tls: true", "1:6: tls: must be a mapping of keys to values (min_version, …), such as tls: {min_version: \"1.2\"}, and is \"true\""},
		{"sites: [{routes: [{respond: 404}]}]", "is {status: 404} meant?"},
		{"sites: [{routes: [{files: ./public}]}]", "is {root: ./public} meant?"},
		{"sites: [{routes: [{to: 3000, health: true}]}]", `such as health: {path: /healthz}, and is "true"`},
		{"sites: [{routes: [{to: 3000, health: /up}]}]", `and is "/up": is {path: /up} meant?`},
	} {
		_, err := Parse("padlock.yaml", []byte(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\ngot  %v\nwant %s", c.file, err, c.want)
		}
	}
	for _, file := range []string{"admin: false", "admin: off"} {
		c, err := Parse("padlock.yaml", []byte(file+"\nsites: [{hosts: [a.test]}]"))
		if err != nil || !c.Admin.Off() {
			t.Errorf("%s: %+v, %v", file, c, err)
		}
	}
}

// A configuration that was validated is valid, and stays as it is: flags are added to one, and it is validated again.
func TestValidatingTwiceChangesNothing(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	t.Setenv("PORT", "3000")
	t.Setenv("EMPTY", "")
	t.Chdir("testdata/cases")
	files, _ := filepath.Glob("*.case")
	valid := 0
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, _, _ := strings.Cut(string(content), caseSeparator)
		c, err := Parse("padlock.yaml", []byte(input+"\n"))
		if err != nil {
			continue
		}
		valid++
		first, _ := c.YAML()
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		second, _ := c.YAML()
		if string(first) != string(second) {
			t.Errorf("%s: validated once\n%s\nvalidated twice\n%s", file, first, second)
		}
	}
	if valid < 50 {
		t.Errorf("only %d configurations are valid", valid)
	}
}
