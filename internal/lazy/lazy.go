// Package lazy has regular expressions that are compiled for the first who needs them. Those of a package's variables would
// be compiled by every start, and by every command: there are fifty, and a start needs three.
//
//	var number = lazy.Regexp(`^[0-9]+$`)
//	…
//	if number().MatchString(text) {
package lazy

import (
	"regexp"
	"sync"
)

// Regexp returns a function that is safe for use from many goroutines. It panics where the pattern is not an expression.
func Regexp(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}
