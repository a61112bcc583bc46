//go:build !unix

package daemon

import (
	"context"
	"os"
)

// restartSignals are none: there is no way here to hand listeners to another process.
func restartSignals() chan os.Signal { return nil }

func (r *restarter) watch(context.Context) {}

func (r *reloader) unheard(_, _ chan os.Signal) func(do func()) { return nil }
