//go:build !unix

package daemon

import (
	"context"
	"os"
)

func (r *restarter) watch(context.Context) {}

func (r *reloader) besideAnother() bool { return false }

func passedOn(string) *os.File { return nil }
