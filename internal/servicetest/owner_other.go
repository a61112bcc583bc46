//go:build !unix

package servicetest

import (
	"syscall"
	"testing"
)

// postgresUser changes nothing: there is no root here.
func postgresUser(testing.TB, string) *syscall.SysProcAttr { return nil }
