//go:build !unix

package main

import "os"

// rotatedSignals are none.
func rotatedSignals() chan os.Signal { return nil }
