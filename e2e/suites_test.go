//go:build e2e

package e2e

import "fmt"

// figure tells what a suite has come to, for `make suites`.
func figure(suite, format string, args ...any) {
	fmt.Printf("suite: %s %s\n", suite, fmt.Sprintf(format, args...))
}
