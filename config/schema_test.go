package config

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

const schemaFile = "../docs/padlock.schema.json"

// The schema for editors is made of the structures that the file is decoded into. UPDATE_DOCS=1 writes it.
func TestTheSchemaIsThatOfTheStructures(t *testing.T) {
	s := &schema{comments: fieldComments(t), definitions: map[string]any{}}
	root := s.structure(reflect.TypeFor[Config]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "padlock.yaml"
	root["anyOf"] = []any{map[string]any{"required": []string{"sites"}}, map[string]any{"required": []string{"docker"}}}
	root["$defs"] = s.definitions
	want, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if os.Getenv("UPDATE_DOCS") == "1" {
		if err := os.WriteFile(schemaFile, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not up to date (%v): UPDATE_DOCS=1 go test ./config", schemaFile, err)
	}
}

type schema struct {
	comments    map[string]fieldComment
	definitions map[string]any
}

// fieldComment is what stands before a field, which is its description, and behind it, which is the form of its value.
type fieldComment struct{ text, form string }

// fieldComments reads the comments of all structures' fields, by Type.Field.
func fieldComments(t *testing.T) map[string]fieldComment {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]fieldComment{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if spec, ok := node.(*ast.TypeSpec); ok {
				commentsOf(spec, comments)
			}
			return true
		})
	}
	return comments
}

func commentsOf(spec *ast.TypeSpec, comments map[string]fieldComment) {
	structure, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, field := range structure.Fields.List {
		for _, name := range field.Names {
			comments[spec.Name.Name+"."+name.Name] = fieldComment{strings.Join(strings.Fields(field.Doc.Text()), " "), strings.TrimSpace(field.Comment.Text())}
		}
	}
}

func (s *schema) structure(t reflect.Type) map[string]any {
	properties := map[string]any{}
	s.fields(t, properties)
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}

// choices are the words that a form allows: json | off.
var choices = regexp.MustCompile(`^[a-z0-9_-]+(?: \| [a-z0-9_-]+)+$`)

func (s *schema) fields(t reflect.Type, properties map[string]any) {
	for i := range t.NumField() {
		field := t.Field(i)
		key := field.Tag.Get("yaml")
		if key == ",inline" {
			s.fields(field.Type, properties)
			continue
		}
		p := s.of(field.Type)
		switch list := field.Type.Kind() == reflect.Slice && field.Type != fieldsType && field.Type != replaceType; {
		case list && field.Tag.Get("empty") != "may":
			p = map[string]any{"anyOf": []any{map[string]any{"type": "array", "items": s.of(field.Type.Elem()), "minItems": 1}, s.of(field.Type.Elem())}}
		case field.Tag.Get("empty") == "never":
			p["minLength"] = 1
		}
		comment := s.comments[t.Name()+"."+field.Name]
		if comment.text != "" {
			p["description"] = comment.text
		}
		if words := choices.FindString(comment.form); words != "" && field.Type.Kind() == reflect.String {
			p["enum"] = strings.Split(words, " | ")
		}
		properties[key] = p
		for _, old := range oldNames(t, key) {
			properties[old] = map[string]any{"deprecated": true, "description": "Now " + key + "."}
		}
		if field.Tag.Get("secret") != "" {
			properties[key+"_file"] = map[string]any{"type": "string", "description": "A file that contains the value of " + key + "."}
		}
	}
}

func (s *schema) of(t reflect.Type) map[string]any {
	text := map[string]any{"type": []string{"string", "number"}}
	switch t {
	case reflect.TypeFor[time.Duration]():
		return map[string]any{"type": "string", "pattern": `^([0-9.]+(ns|us|ms|s|m|h))+$|\$\{`}
	case reflect.TypeFor[Patience]():
		return map[string]any{"type": "string", "pattern": `^([0-9.]+(ns|us|ms|s|m|h))+$|^off$|\$\{`}
	case reflect.TypeFor[Target](), reflect.TypeFor[Size](), reflect.TypeFor[Network]():
		return text
	case replaceType:
		one := map[string]any{
			"type": "object", "additionalProperties": false, "required": []string{"from"},
			"properties": map[string]any{"from": map[string]any{"type": "string"}, "to": map[string]any{"type": "string"}},
		}
		return map[string]any{"type": "object", "additionalProperties": map[string]any{"anyOf": []any{one, map[string]any{"type": "array", "items": one}}}}
	case reflect.TypeFor[FieldValues]():
		values := map[string]any{"type": []string{"string", "array"}, "items": map[string]any{"type": "string"}}
		return map[string]any{"type": "object", "additionalProperties": values}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer", "minimum": 1}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}}
	case reflect.Slice:
		items := s.of(t.Elem())
		return map[string]any{"anyOf": []any{map[string]any{"type": "array", "items": items}, items, map[string]any{"type": "null"}}}
	case reflect.Struct:
		if _, ok := s.definitions[t.Name()]; !ok {
			s.definitions[t.Name()] = nil // it is being made
			definition := s.structure(t)
			if reflect.PointerTo(t).Implements(textType) { // a word may stand for it
				s.definitions[t.Name()] = map[string]any{"anyOf": []any{definition, map[string]any{"type": []string{"string", "number", "boolean"}}}}
			} else {
				s.definitions[t.Name()] = definition
			}
		}
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	}
	return map[string]any{"type": "string"}
}

// The reference is a configuration that padlock takes, and it has every key there is.
func TestTheReferenceIsValidAndHasEveryKey(t *testing.T) {
	content, err := os.ReadFile("../docs/padlock.reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cases, err := filepath.Abs("testdata/cases")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, from := range map[string]string{
		"app-ca.pem": "ca.pem", "padlock.pem": "client.pem", "padlock-key.pem": "client-key.pem", "storage.key": "secret.txt",
		"eab.key": "secret.txt", "admin.token": "client.pem", "users.htpasswd": "users.htpasswd", "keys.txt": "keys.txt", "ca.pem": "ca.pem", "app.pem": "client.pem", "app-key.pem": "client-key.pem", "app.p12": "secret.txt", "p12.password": "secret.txt",
		"collector.headers": "collector.headers",
	} {
		data, err := os.ReadFile(filepath.Join(cases, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "certificates"), 0o700); err != nil {
		t.Fatal(err)
	}
	ca, list := servicetest.ClientCA(t)
	for name, data := range map[string][]byte{"clients.pem": ca, "revoked.crl": list, "missing.html": nil, "failed.html": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("APP_PORT", "3000")
	t.Chdir(dir)
	if _, err := Parse("padlock.reference.yaml", content); err != nil {
		t.Error(err)
	}
	var keys func(reflect.Type)
	known := map[string]bool{}
	keys = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[Target]() || typ == reflect.TypeFor[Network]() || typ == reflect.TypeFor[FieldValue]() {
			return
		}
		for i := range typ.NumField() {
			if key := typ.Field(i).Tag.Get("yaml"); key != ",inline" && key != "" && key != "off" { // off is a word there
				known[key] = true
			}
			keys(typ.Field(i).Type)
		}
	}
	keys(reflect.TypeFor[Config]())
	for key := range known {
		if !regexp.MustCompile(`\b` + key + `(_file)?:`).Match(content) {
			t.Errorf("the reference does not have %s", key)
		}
	}
}
