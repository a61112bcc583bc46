package config

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const keysFile = "../docs/keys.md"

// The tables of keys are made of the structures that the file is decoded into, of their comments and their defaults. UPDATE_DOCS=1 writes them.
func TestTheTableOfKeysIsThatOfTheStructures(t *testing.T) {
	k := &keyTables{fields: fieldComments(t), seen: map[reflect.Type]string{}}
	k.WriteString("# Every key\n\n" +
		"A test generates this page and [padlock.schema.json](padlock.schema.json) from the program.\n" +
		"[Configuration](configuration.md) explains the keys by task; [padlock.reference.yaml](padlock.reference.yaml) shows all of them in one file.\n\n" +
		"- `[]` is a list. One entry can be written without brackets.\n" +
		"- The default is the value without the key, in every entry of a list. An empty cell means none, or what the description says.\n" +
		"- A *secret* can be in a file of its own: `token_file: FILE` instead of `token`.\n" +
		"- A duration has a unit: `10s`, `2m`, `1h30m`. A size is in bytes or has a unit: `512KiB`, `10MiB`.\n" +
		"- A network is an address or a range: `10.0.0.5`, `10.0.0.0/8`.\n")
	standard := Default()
	standard.Storage = ""
	(&validator{}).certificates(standard)
	k.section("Top level", "", reflect.ValueOf(standard).Elem())
	if len(k.silent) > 0 {
		t.Errorf("without a comment: %s", strings.Join(k.silent, ", "))
	}
	if os.Getenv("UPDATE_DOCS") == "1" {
		if err := os.WriteFile(keysFile, k.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(keysFile); err != nil || !bytes.Equal(got, k.Bytes()) {
		t.Errorf("%s is not up to date (%v): UPDATE_DOCS=1 go test ./config", keysFile, err)
	}
}

type keyTables struct {
	bytes.Buffer
	fields map[string]fieldComment
	seen   map[reflect.Type]string // structures, by the first key that has them
	later  []func()                // sections of mappings in the present one
	silent []string                // keys without a description
}

// ownSection are the mappings below the top level that have too many keys for the table of the mapping that they are in.
var ownSection = []string{"sites[].routes[]", "sites[].tcp"}

// section is a heading with a table, and the sections of the mappings in it.
func (k *keyTables) section(heading, path string, v reflect.Value) {
	fmt.Fprintf(k, "\n## %s\n\n| key | value | default | description |\n|---|---|---|---|\n", heading)
	k.later = nil
	k.structure(v, path)

	for _, write := range k.later {
		write()
	}
}

func (k *keyTables) structure(v reflect.Value, path string) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		key := field.Tag.Get("yaml")
		switch {
		case field.Type == reflect.TypeFor[Upstream]():
			k.upstream(value, path)
		case key == ",inline":
			k.structure(value, path)
		default:
			k.key(v.Type().Name()+"."+field.Name, field, value, strings.TrimPrefix(path+"."+key, "."))
		}
	}
}

// upstream has the keys of targets once: of routes, and of TCP a row that refers to them.
func (k *keyTables) upstream(v reflect.Value, path string) {
	if routes := k.seen[v.Type()]; routes != "" {
		fmt.Fprintf(k, "| `%s.…` | | | The keys of [%s](#%s) from `to` to `insecure_skip_verify`, except those marked HTTP only. |\n", path, heading(routes), anchor(routes))
		return
	}
	k.seen[v.Type()] = path
	k.structure(v, path)
}

func (k *keyTables) key(name string, field reflect.StructField, value reflect.Value, at string) {
	kind, nested := valueKind(field.Type)
	comment := k.fields[name]
	description := comment.text
	if description == "" {
		k.silent = append(k.silent, at)
	}
	if comment.form != "" {
		kind = formText(comment.form, field.Type.Kind() == reflect.Slice)
	}
	if field.Tag.Get("secret") != "" {
		kind += ", *secret*"
	}
	if field.Type.Kind() == reflect.Slice && field.Type != fieldsType && field.Type != replaceType {
		at += "[]"
	}

	expand := nested != nil && k.seen[nested] == ""
	apart := expand && (!strings.Contains(at, ".") || slices.Contains(ownSection, at))
	switch {
	case apart:
		description += fmt.Sprintf(" [Keys](#%s).", anchor(at))
	case nested != nil && !expand:
		description += fmt.Sprintf(" The keys are those of `%s`.", k.seen[nested])
	}
	fmt.Fprintf(k, "| `%s` | %s | %s | %s |\n", at, escaped(kind), escaped(defaultText(value)), escaped(description))
	if !expand {
		return
	}

	k.seen[nested] = at
	inside := unsaidWithin(value, nested)
	if apart {
		k.later = append(k.later, func() { k.section(heading(at), at, inside) })
	} else {
		k.structure(inside, at)
	}
}

func escaped(cell string) string { return strings.ReplaceAll(cell, "|", "\\|") }

// heading is a key without the marks of lists; anchor is what a link calls it.
func heading(key string) string { return strings.ReplaceAll(key, "[]", "") }
func anchor(key string) string  { return strings.ReplaceAll(heading(key), ".", "") }

// formText is what stands in the column of values: a choice of words, or a form as it is.
func formText(form string, list bool) string {
	if choices.FindString(form) != form {
		return strings.ReplaceAll(form, " | ", " or ")
	}
	words := strings.Split(form, " | ")
	text := "`" + strings.Join(words[:len(words)-1], "`, `") + "` or `" + words[len(words)-1] + "`"
	if list {
		return "list of " + text
	}
	return text
}

// unsaidWithin is what a structure has when nothing is said: of what the whole configuration always has, the default; of others what validation makes of it.
func unsaidWithin(v reflect.Value, t reflect.Type) reflect.Value {
	if v.Kind() == reflect.Struct {
		return v
	}
	return unsaid(t)
}

// valueKind is a type in words, and the structure that has keys of its own.
func valueKind(t reflect.Type) (string, reflect.Type) {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration", nil
	case reflect.TypeFor[Patience]():
		return "duration or off", nil
	case reflect.TypeFor[Target]():
		return "target", nil
	case reflect.TypeFor[Network]():
		return "network", nil
	case reflect.TypeFor[Size]():
		return "size", nil
	case replaceType:
		return "names and values", nil
	case reflect.TypeFor[FieldValues]():
		return "names and values", nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return valueKind(t.Elem())
	case reflect.Slice:
		kind, nested := valueKind(t.Elem())
		if nested != nil {
			return "list of mappings", nested
		}
		return "list of " + kind + "s", nil
	case reflect.Map:
		return "names and values", nil
	case reflect.Struct:
		return "mapping", t
	case reflect.Bool:
		return "true or false", nil
	case reflect.Int, reflect.Float64:
		return "number", nil
	}
	return "string", nil
}

func defaultText(v reflect.Value) string {
	if v.IsZero() || v.Kind() == reflect.Struct && v.NumField() > 0 && v.Type() != reflect.TypeFor[Network]() {
		if v.Kind() == reflect.Bool {
			return "`false`"
		}
		return ""
	}
	if v.Kind() == reflect.Float64 {
		return "`" + strconv.FormatFloat(math.Round(v.Float()*100)/100, 'f', -1, 64) + "`"
	}
	node := encode(v, reflect.New(v.Type()).Elem())
	node.Style |= yaml.FlowStyle
	text, err := yaml.Marshal(node)
	if err != nil {
		return err.Error()
	}
	return "`" + zeroUnits.ReplaceAllString(strings.TrimSpace(string(text)), "$1") + "`"
}

// zeroUnits are the parts of a duration that say nothing: 1h0m0s is 1h.
var zeroUnits = regexp.MustCompile(`^([1-9][0-9]*[hm](?:[1-9][0-9]*m)?)(?:0m)?0s$`)
