//go:build !unix

package daemon

import "os"

// restartSignals are none: there is no way here to hand listeners to another process.
func restartSignals() chan os.Signal { return nil }

// rotatedSignals are none.
func rotatedSignals() chan os.Signal { return nil }
