package inspect

import (
	"slices"
	"strings"
)

// Change is a field line before and after padlock.
type Change struct {
	Kind   string `json:"kind"` // same | added | removed | rewritten
	Name   string `json:"name"`
	Value  string `json:"value"`            // after; of one that was removed: before
	Before string `json:"before,omitempty"` // of one that was rewritten
	Secret bool   `json:"secret,omitempty"`
}

// Diff compares the field lines of a message that came with those that went on: the nth line of a name with the nth of
// the same name.
func Diff(before, after []Field) (changes []Change) {
	left := map[string][]Field{}
	for _, f := range after {
		name := strings.ToLower(f.Name)
		left[name] = append(left[name], f)
	}

	// A line that has stayed is found wherever it stands among its like.
	take := func(name string, i int) Field {
		f := left[name][i]
		left[name] = slices.Delete(left[name], i, i+1)
		return f
	}
	stayed := make([]bool, len(before))
	for i, f := range before {
		name := strings.ToLower(f.Name)
		if at := slices.IndexFunc(left[name], func(g Field) bool { return g.Value == f.Value }); at >= 0 {
			take(name, at)
			stayed[i] = true
		}
	}

	for i, f := range before {
		name := strings.ToLower(f.Name)
		c := Change{Kind: "same", Name: f.Name, Value: f.Value, Secret: f.Secret}
		switch {
		case stayed[i]:
		case len(left[name]) == 0:
			c.Kind = "removed"
		default:
			now := take(name, 0)
			c.Kind, c.Name, c.Value, c.Before = "rewritten", now.Name, now.Value, f.Value
		}
		changes = append(changes, c)
	}

	for _, f := range after {
		if name := strings.ToLower(f.Name); len(left[name]) > 0 {
			now := take(name, 0)
			changes = append(changes, Change{Kind: "added", Name: now.Name, Value: now.Value, Secret: now.Secret})
		}
	}
	return changes
}
