//go:build !unix

package daemon

import "os"

// rotatedSignals are none.
func rotatedSignals() chan os.Signal { return nil }
