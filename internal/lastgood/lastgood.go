// Package lastgood keeps the values of files that have changed and cannot be used any more.
//
//	values := lastgood.After(before)      // before may be nil
//	roots, err := lastgood.Get(values, "clients.pem", "CAs", func() (*x509.CertPool, error) { … })
//	for _, kept := range values.Kept() { … }
package lastgood

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// Values are what files held at one time, each read once. It is safe for use from many goroutines.
type Values struct {
	mu     sync.Mutex
	before map[entry]any
	now    map[entry]any
	kept   map[entry]error
}

// entry is what is read of a file: it may be of use as one thing and not as another.
type entry struct{ file, as string }

// After returns values that are still to be read. Of a file that cannot be used, what it held before counts.
func After(before *Values) *Values {
	v := &Values{now: map[entry]any{}, kept: map[entry]error{}}
	if before != nil {
		before.mu.Lock()
		defer before.mu.Unlock()
		v.before = maps.Clone(before.now)
	}
	return v
}

// Get returns what a file holds as one of the things that it may be used as, such as "CAs"; T depends on that alone.
// load is called once. Where it fails, the value from before is kept, and only if there is none the error is
// returned.
func Get[T any](v *Values, file, as string, load func() (T, error)) (T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	name := entry{file, as}
	if value, known := v.now[name]; known {
		return value.(T), nil
	}

	value, err := load()
	if err != nil {
		before, known := v.before[name]
		if !known {
			return value, err
		}
		value = before.(T)
		v.kept[name] = err
	}

	v.now[name] = value
	return value, nil
}

// Kept is a file whose value is from before.
type Kept struct {
	File string
	Err  error // why what it holds now cannot be used
}

// Kept returns the files whose values are from before, each once, by their names.
func (v *Values) Kept() (all []Kept) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, err := range v.kept {
		if !slices.ContainsFunc(all, func(k Kept) bool { return k.File == name.file }) {
			all = append(all, Kept{name.file, err})
		}
	}
	slices.SortFunc(all, func(a, b Kept) int { return cmp.Compare(a.File, b.File) })
	return all
}

// Forget lets go of what was before, once all has been read.
func (v *Values) Forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.before = nil
}
