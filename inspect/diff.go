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

	for _, f := range before {
		name := strings.ToLower(f.Name)
		of := left[name]
		if len(of) == 0 {
			changes = append(changes, Change{Kind: "removed", Name: f.Name, Value: f.Value, Secret: f.Secret})
			continue
		}

		// A line that has stayed is found wherever it stands among its like.
		i := max(0, slices.IndexFunc(of, func(g Field) bool { return g.Value == f.Value }))
		c := Change{Kind: "same", Name: of[i].Name, Value: of[i].Value, Secret: f.Secret}
		if of[i].Value != f.Value {
			c.Kind, c.Before = "rewritten", f.Value
		}
		changes = append(changes, c)
		left[name] = slices.Delete(slices.Clone(of), i, i+1)
	}

	for _, f := range after {
		name := strings.ToLower(f.Name)
		if of := left[name]; len(of) > 0 {
			changes = append(changes, Change{Kind: "added", Name: of[0].Name, Value: of[0].Value, Secret: of[0].Secret})
			left[name] = of[1:]
		}
	}
	return changes
}
