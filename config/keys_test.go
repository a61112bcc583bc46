package config

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const keysFile = "../docs/keys.md"

// The table of keys is made of the structures that the file is decoded into, of their remarks and their defaults. UPDATE_DOCS=1 writes it.
func TestTheTableOfKeysIsThatOfTheStructures(t *testing.T) {
	k := &keyTable{comments: fieldComments(t)}
	k.WriteString("# Every key\n\nMade of the program itself, as is [padlock.schema.json](padlock.schema.json); [configuration](configuration.md) says what belongs together,\n" +
		"and [padlock.reference.yaml](padlock.reference.yaml) shows it in use. Keys with *secret* may stand in a file of their own: `token_file` instead of `token`.\n" +
		"`[]` is a list; what is there in every entry has its default behind it. Durations are such as `10s` or `2m`, sizes such as `512KiB`.\n\n| key | value | default | meaning |\n|---|---|---|---|\n")
	standard := Default()
	standard.Storage = ""
	(&validator{}).certificates(standard)
	k.structure(reflect.ValueOf(standard).Elem(), "")
	if len(k.silent) > 0 {
		t.Errorf("without a remark: %s", strings.Join(k.silent, ", "))
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

type keyTable struct {
	bytes.Buffer
	comments map[string]string // of Type.Field, and of Type
	silent   []string          // keys without a word
}

func (k *keyTable) structure(v reflect.Value, path string) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		key := field.Tag.Get("yaml")
		if key == ",inline" {
			k.structure(value, path)
			continue
		}
		at := strings.TrimPrefix(path+"."+key, ".")
		kind, nested := valueKind(field.Type)
		if strings.HasPrefix(kind, "list of") {
			at += "[]"
		}
		if field.Tag.Get("secret") != "" {
			kind += ", *secret*"
		}
		comment := k.comments[v.Type().Name()+"."+field.Name]
		if nested != nil && comment == "" {
			comment = k.comments[nested.Name()]
		}
		if comment == "" {
			k.silent = append(k.silent, at)
		}
		comment = strings.NewReplacer("|", "\\|", "\n", " ").Replace(comment)
		fmt.Fprintf(k, "| `%s` | %s | %s | %s |\n", at, kind, defaultText(value), comment)
		if nested != nil {
			k.structure(unsaidWithin(value, nested), at)
		}
	}
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
		return "names, each with from and to", nil
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
	return "text", nil
}

func defaultText(v reflect.Value) string {
	if v.IsZero() || v.Kind() == reflect.Struct && v.NumField() > 0 && v.Type() != reflect.TypeFor[Network]() {
		if v.Kind() == reflect.Bool {
			return "`false`"
		}
		return ""
	}
	node := encode(v, reflect.New(v.Type()).Elem())
	node.Style |= yaml.FlowStyle
	text, err := yaml.Marshal(node)
	if err != nil {
		return err.Error()
	}
	return "`" + strings.TrimSpace(string(text)) + "`"
}
