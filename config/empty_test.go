package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A list of whom or what is let through may not be empty: nobody means all by it, but whoever has commented out its entries gets all. The
// same goes for texts without which less is asked of clients or targets. Only the keys that stand here may be empty, since nobody gets
// further by that.
func TestNoKeyThatHoldsSomebodyBackMayBeEmpty(t *testing.T) {
	t.Setenv("NOTHING", "")
	harmless := []string{
		"trusted_proxies", "resolvers", "sites", "listen.https", "listen.http", "docker.override", "admin.hosts", "certificates.files", "certificates.issuers",
		"certificates.dns.resolvers", "access_log.headers", "access_log.redact", "sites.routes", "sites.routes.upgrades", "sites.routes.files.precompressed",
	}
	texts := []string{
		"sites.routes.exact", "sites.routes.files.root", "sites.routes.ca", "sites.tcp.ca", "sites.basic_auth.users_file", "sites.routes.basic_auth.users_file", "sites.tls.client_auth.ca",
		"docker.access.name", "docker.access.basic_auth.users_file", "admin.token", "admin.client_ca", "user", "storage_key", "certificates.issuers.root", "tracing.ca",
	}
	lists := 0
	every(reflect.TypeFor[Config](), "", func(path string, field reflect.Type) {
		list := field.Kind() == reflect.Slice && field != fieldsType && field != replaceType
		values := []string{`""`, `"${NOTHING}"`}
		switch {
		case list && (slices.Contains(harmless, path) || strings.HasSuffix(path, ".remove")):
			return
		case list:
			values = append(values, "", "~", "[]", `[""]`, `["", x]`)
			lists++
		case !slices.Contains(texts, path):
			return
		}
		for _, value := range values {
			file := nested(strings.Split(path, "."), value)
			_, err := Parse("padlock.yaml", []byte(file))
			var wrong Errors
			if !errors.As(err, &wrong) || !slices.ContainsFunc(wrong, func(e Error) bool { return strings.HasPrefix(withoutIndexes(e.Path), path) }) {
				t.Errorf("%s is taken as it is: %v", file, err)
			}
		}
	})
	if lists < 15 {
		t.Errorf("only %d lists were looked at", lists)
	}
}

// every visits the keys of a structure, and of those in it.
func every(t reflect.Type, path string, visit func(path string, t reflect.Type)) {
	for i := range t.NumField() {
		field, key := t.Field(i), t.Field(i).Tag.Get("yaml")
		at := strings.TrimPrefix(path+"."+key, ".")
		inner := field.Type
		if key == ",inline" {
			at = path
		} else if key != "" {
			visit(at, inner)
		}
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice && inner != fieldsType {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && (key == ",inline" || key != "") && hasKeys(inner) {
			every(inner, at, visit)
		}
	}
}

// nested is a file in which a key, below sites and routes too, has a value.
func nested(keys []string, value string) string {
	before, after := "", ""
	for i, key := range keys {
		if i == len(keys)-1 {
			return before + key + ": " + value + after
		}
		open, end := "{", "}"
		if isList(keys, i) {
			open, end = "[{", "}]"
		}
		before, after = before+key+": "+open, end+after
	}
	return ""
}

// isList reports whether one of a path's keys takes a list of structures. A route's files are one alone.
func isList(keys []string, i int) bool {
	return slices.Contains([]string{"sites", "routes", "issuers", "to"}, keys[i]) || keys[i] == "files" && i == 1 || keys[0] == "docker" && keys[i] == "access"
}

func withoutIndexes(path string) string {
	for {
		before, rest, ok := strings.Cut(path, "[")
		if !ok {
			return path
		}
		_, rest, _ = strings.Cut(rest, "]")
		path = before + rest
	}
}
