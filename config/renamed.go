package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// renaming is the present name of a key that had another one.
type renaming struct {
	key    string
	values map[string]string // values that have other names too; nil: all values are as they were
}

// renamed are keys that had another name in the release before, by the structure that has them. They still work, with
// a warning that names the new one: in files, in labels of containers and in the schema. An entry is removed with the
// release after that.
var renamed = map[reflect.Type]map[string]renaming{
	reflect.TypeFor[Config](): {
		"drop_aliases": {"underscores_in_headers", map[string]string{"known": "drop_known", "all": "drop", "none": "keep"}},
	},
	reflect.TypeFor[Timeouts](): {"stall": {key: "body_idle"}},
	reflect.TypeFor[Limits]():   {"head": {key: "header_size"}, "fields": {key: "header_fields"}, "frames": {key: "noop_frames"}},
	reflect.TypeFor[Upstream](): {"passive": {key: "passive_health"}},
}

// renamedIn are the old names of a structure's keys, and of those of structures that are inlined in it.
func renamedIn(t reflect.Type) map[string]renaming {
	all := maps.Clone(renamed[t])
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") != ",inline" {
			continue
		}
		for old, now := range renamedIn(t.Field(i).Type) {
			if all == nil {
				all = map[string]renaming{}
			}
			all[old] = now
		}
	}
	return all
}

// RenamedOfRoute is the present name of a route's key that is given under its old one, as labels give it:
// passive.failures.
func RenamedOfRoute(name string) (now string, ok bool) {
	key, rest, _ := strings.Cut(name, ".")
	r, ok := renamedIn(reflect.TypeFor[Route]())[key]
	if !ok {
		return "", false
	}
	return r.key + strings.TrimPrefix(name, key), rest != "" || name == key
}

// current is the node with the present name of what it holds.
func (r renaming) current(value *yaml.Node) *yaml.Node {
	now, ok := r.values[value.Value]
	if !ok {
		return value
	}
	renamed := *value
	renamed.Value = now
	return &renamed
}

// warning says how a key is to be written now.
func (r renaming) warning(value *yaml.Node) string {
	if now, ok := r.values[value.Value]; ok {
		return fmt.Sprintf("is now %s: %s; write that, as the next release does not read the old name", r.key, now)
	}
	return fmt.Sprintf("is now %s; write that, as the next release does not read the old name", r.key)
}

// oldNames of a key, in the order of the alphabet.
func oldNames(in reflect.Type, key string) (old []string) {
	for name, now := range renamed[in] {
		if now.key == key {
			old = append(old, name)
		}
	}
	slices.Sort(old)
	return old
}
