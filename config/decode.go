package config

import (
	"encoding"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"padlock/internal/regular"
)

// decoder fills structures from YAML nodes by their yaml tags. It is strict, and goes on after an error to find them
// all.
type decoder struct {
	file   string
	getenv func(string) (string, bool)
	errs   Errors
	places map[string]*yaml.Node // where each path stands, for validation
	meant  []string              // paths that another key seems to have been meant for
	old    []Error               // keys that are given under a name that they had before
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.errs = append(d.errs, Error{File: d.file, Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...)})
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	fieldsType   = reflect.TypeFor[FieldValues]()
	replaceType  = reflect.TypeFor[Replacements]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	d.places[path] = n
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fail(n, path, "anchors and aliases are not supported: write the value out")
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path)
	case v.Addr().Type().Implements(textType) && (n.Kind != yaml.MappingNode || !mappable(v.Type())) || v.Type() == durationType:
		d.scalar(n, v, path)
	case v.Type() == fieldsType:
		d.fieldValues(n, v, path)
	case v.Type() == replaceType:
		d.replacements(n, v, path)
	case v.Kind() == reflect.Struct:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Map:
		d.texts(n, v, path)
	case v.Kind() == reflect.Slice:
		d.sequence(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// mappable reports whether a type that can be given as a text can be given key by key too.
func mappable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.Field(0).Tag.Get("yaml") != ""
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	fields := map[string]reflect.Value{}
	known := keys(v, fields)
	old := renamedIn(v.Type())

	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "%s", mappingWanted(n, known, path))
		return
	}

	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		name, value := d.present(key, n.Content[i+1], old, path)
		at := strings.TrimPrefix(path+"."+name, ".")

		field, ok := fields[name]
		// Only where no key has this very name, so that a key may end with _file and mean something else.
		if base, secret := strings.CutSuffix(name, "_file"); !ok && secret {
			if ok = secretField(v, base); ok {
				d.secretFile(value, fields[base], at, seen[base] != nil)
				// A secret that is given in both ways would leave open which counts.
				seen[base] = key
				continue
			}
		}

		switch {
		case !ok:
			message, meant := unknown(name, known, at)
			d.fail(key, at, "%s", message)
			if meant != "" {
				d.meant = append(d.meant, strings.TrimPrefix(path+"."+meant, "."))
			}
		case seen[name] != nil:
			d.fail(key, at, "%s", givenTwice(seen[name], key, name))
		case value.Tag == "!!null" && field.Kind() != reflect.Slice:
			d.fail(value, at, "has no value: if what follows belongs to it, indent that by two spaces more; or take the key away")
		default:
			seen[name] = key
			// A value that could not be decoded is empty too, and has been reported.
			before := len(d.errs)
			d.decode(value, field, at)
			if len(d.errs) == before && !mayBeEmpty(v.Type(), name) {
				d.filled(value, field, at)
			}
		}
	}
}

// present is the name that a key has now, and its value. A name that it had before is a warning.
func (d *decoder) present(key, value *yaml.Node, old map[string]renaming, path string) (string, *yaml.Node) {
	now, was := old[key.Value]
	if !was {
		return key.Value, value
	}

	at := strings.TrimPrefix(path+"."+key.Value, ".")
	d.old = append(d.old, Error{File: d.file, Line: key.Line, Column: key.Column, Path: at, Message: now.warning(value)})
	return now.key, now.current(value)
}

// givenTwice says of a key that has been given before, which may have been under another name, which of both to remove.
func givenTwice(before, again *yaml.Node, name string) string {
	switch {
	case again.Value != name:
		return fmt.Sprintf("is given twice, on line %d already: remove %s, its old name", before.Line, again.Value)
	case before.Value != name:
		return fmt.Sprintf("is given twice, on line %d already as %s, its old name: remove that", before.Line, before.Value)
	}
	return fmt.Sprintf("is given twice, on line %d already: keep one", before.Line)
}

// filled makes sure that something stands in a list or a text, and in all of a list's texts.
func (d *decoder) filled(n *yaml.Node, v reflect.Value, path string) {
	switch {
	case (v.Kind() == reflect.Slice || v.Kind() == reflect.String) && v.Len() == 0:
		d.fail(n, path, "is empty: give it a value%s", instead(path))
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String:
		for i := range v.Len() {
			at := fmt.Sprintf("%s[%d]", path, i)
			d.filled(d.places[at], v.Index(i), at)
		}
	}
}

// instead is what else can be done about a value that is empty.
func instead(path string) string {
	key := path[strings.LastIndexByte(path, '.')+1:]
	switch {
	case strings.HasSuffix(key, "]"):
		return ", or take the entry away"
	// Without these, a mapping means nothing.
	case slices.Contains([]string{"hosts", "to", "jwks", "issuer", "audience", "origins", "root"}, key) && !strings.HasPrefix(path, "admin."):
		return ""
	}
	return ", or leave the key out for its default"
}

// mayBeEmpty reports whether a key of a structure may be given without a value. Most lists choose who or what is
// let through, and none of it means all: lists may not, unless their tag says so, and texts may.
func mayBeEmpty(t reflect.Type, key string) bool {
	for i := range t.NumField() {
		field := t.Field(i)
		switch field.Tag.Get("yaml") {
		case ",inline":
			if !mayBeEmpty(field.Type, key) {
				return false
			}
		case key:
			tag := field.Tag.Get("empty")
			return tag == "may" || tag == "" && field.Type.Kind() != reflect.Slice
		}
	}
	return true
}

// secretField reports whether a key's value may stand in a file of its own, named by the key with _file.
func secretField(v reflect.Value, key string) bool {
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag; tag.Get("yaml") == key && tag.Get("secret") != "" {
			return true
		}
	}
	return false
}

const maxSecret = 64 << 10

// secretFile takes a value from a file, without the line's end that editors put there.
func (d *decoder) secretFile(n *yaml.Node, field reflect.Value, path string, given bool) {
	var name string
	before := len(d.errs)
	d.decode(n, reflect.ValueOf(&name).Elem(), path)
	if len(d.errs) > before {
		return
	}

	if given {
		d.fail(n, path, "%s is given too: one of them", strings.TrimSuffix(path, "_file"))
		return
	}

	// Regular files alone, and of a limited size: a named pipe would let the start wait for a writer.
	content, err := regular.Named(fileIn(filepath.Dir(d.file), name), maxSecret)
	text := strings.TrimRight(string(content), "\r\n")
	switch {
	case err != nil:
		d.fail(n, path, "%v", err)
	case text == "":
		d.fail(n, path, "%q is empty", name)
	case field.Kind() == reflect.Map:
		d.secretLines(n, field, path, text)
	default:
		field.SetString(text)
	}
}

// secretLines takes lines of name: value, and repeats none.
func (d *decoder) secretLines(n *yaml.Node, field reflect.Value, path, text string) {
	all := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			d.fail(n, path, "line %d of the file is not name: value", i+1)
			return
		}

		// The last line would win silently, and the first may be the one that is meant.
		if _, twice := all[strings.TrimSpace(name)]; twice {
			d.fail(n, path, "line %d of the file names %s again", i+1, strings.TrimSpace(name))
			return
		}

		all[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	field.Set(reflect.ValueOf(all))
}

// keys are those of a structure and of the structures that are inlined in it.
func keys(v reflect.Value, fields map[string]reflect.Value) (known []string) {
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		// Whoever writes the file cannot see which keys share a structure in Go.
		if key == ",inline" {
			known = append(known, keys(v.Field(i), fields)...)
			continue
		}
		fields[key] = v.Field(i)
		known = append(known, key)
	}
	return known
}

// texts decodes a mapping of free keys to texts.
func (d *decoder) texts(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "%s", textsWanted(n, "names to texts", path))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, at := n.Content[i], path+"."+n.Content[i].Value
		// The YAML library finds this when it fills a map itself, and not in nodes.
		if v.MapIndex(reflect.ValueOf(key.Value)).IsValid() {
			d.fail(key, at, "is given twice")
			continue
		}

		text := reflect.New(v.Type().Elem()).Elem()
		d.decode(n.Content[i+1], text, at)
		v.SetMapIndex(reflect.ValueOf(key.Value), text)
	}
}

// fieldValues decodes a mapping of names to values, which may be lists.
func (d *decoder) fieldValues(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "%s", textsWanted(n, "field names to values", path))
		return
	}

	var all FieldValues
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, at := n.Content[i].Value, path+"."+n.Content[i].Value
		var values []string
		before := len(d.errs)
		d.decode(n.Content[i+1], reflect.ValueOf(&values).Elem(), at)
		// An empty value looks like an order to take the field away, and would do nothing.
		if len(values) == 0 && len(d.errs) == before {
			d.fail(n.Content[i+1], at, "has no value: a field is taken away by remove")
		}

		for _, value := range values {
			all = append(all, FieldValue{name, value})
		}
	}

	v.Set(reflect.ValueOf(all))
}

// fromTo is one replacement as it is written.
type fromTo struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

// replacements decodes a mapping of names to what is replaced in their values, once or several times.
func (d *decoder) replacements(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "%s", textsWanted(n, "field names to {from, to}", path))
		return
	}

	var all Replacements
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		at, list := path+"."+name, []fromTo{}
		switch value.Kind {
		case yaml.MappingNode:
			list = make([]fromTo, 1)
			d.decode(value, reflect.ValueOf(&list[0]).Elem(), at)
		case yaml.SequenceNode:
			d.decode(value, reflect.ValueOf(&list).Elem(), at)
		default:
			d.fail(value, at, "%s", textsWanted(value, "from and to, or a list of these", path))
		}

		for _, one := range list {
			all = append(all, Replacement{name, one.From, one.To})
		}
	}

	v.Set(reflect.ValueOf(all))
}

// sequence also takes a single value for a list of one.
func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	items := n.Content
	switch {
	case n.Tag == "!!null":
		items = nil
	case n.Kind == yaml.ScalarNode && v.Type().Elem().Kind() != reflect.Struct || n.Kind == yaml.ScalarNode && reflect.PointerTo(v.Type().Elem()).Implements(textType):
		items = []*yaml.Node{n}
	case n.Kind != yaml.SequenceNode:
		d.fail(n, path, "%s", listWanted(n, v.Type().Elem(), path))
		return
	}

	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.decode(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(list)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "%s", valueWanted(n, v.Type(), path))
		return
	}
	text, err := d.expand(n.Value)
	if err == nil {
		err = setScalar(v, text)
	}
	if err != nil {
		d.fail(n, path, "%v", err)
	}
}

// Read puts a text into a setting, to which into points, as the file's decoder does: into a list, what stands between
// commas. It expands no variables of the environment, for texts that are not the administrator's.
func Read(text string, into any) error {
	v := reflect.ValueOf(into).Elem()
	if v.Kind() != reflect.Slice {
		return setScalar(v, text)
	}

	items := strings.Split(text, ",")
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := setScalar(list.Index(i), strings.TrimSpace(item)); err != nil {
			return err
		}
	}

	v.Set(list)
	return nil
}

func setScalar(v reflect.Value, text string) error {
	if unmarshaler, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return unmarshaler.UnmarshalText([]byte(text))
	}

	switch {
	case v.Type() == durationType:
		duration, err := time.ParseDuration(text)
		if err != nil || duration <= 0 {
			return durationWanted(text)
		}
		v.SetInt(int64(duration))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		value, err := strconv.ParseBool(text)
		if err != nil {
			return boolWanted(text)
		}
		v.SetBool(value)
	case v.Kind() == reflect.Int:
		value, err := strconv.Atoi(text)
		if err != nil || value <= 0 {
			return countWanted(text)
		}
		v.SetInt(int64(value))
	case v.Kind() == reflect.Float64:
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			return fmt.Errorf("%q is not a number, such as 0.2", text)
		}
		v.SetFloat(value)
	default:
		return fmt.Errorf("config: no way to decode %s", v.Type())
	}
	return nil
}

// expand replaces ${NAME} and ${NAME:-default} by the environment's values. It works on decoded values,
// so that a variable's content can never change the structure of the file.
func (d *decoder) expand(text string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}

		expression, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("%q has no closing }", "${"+rest)
		}
		name, fallback, hasFallback := strings.Cut(expression, ":-")
		value, set := d.getenv(name)
		switch {
		case set:
			b.WriteString(value)
		case hasFallback:
			b.WriteString(fallback)
		default:
			return "", fmt.Errorf("the environment variable %s is not set: set it, or give it a default with ${%s:-default}", name, name)
		}

		text = after
	}
}

// Near reports whether a is b but for a slip or two of the keyboard.
func Near(a, b string) bool { return editDistance(a, b) <= 2 }

// Nearest is the one of some names that another is Near to, and nearer than to the others; "" where none is.
func Nearest(name string, among []string) (nearest string) {
	best := 3
	for _, other := range among {
		if distance := editDistance(name, other); distance < best {
			nearest, best = other, distance
		}
	}
	return nearest
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}

	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}

	return row[len(b)]
}

func lookupEnv(name string) (string, bool) { return os.LookupEnv(name) }
