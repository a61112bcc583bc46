package main

import (
	"runtime"
	"runtime/debug"
)

// roomy is the percentage by which the heap grows before its first collection (debug.SetGCPercent): to 16 MiB in the place
// of 4. A start allocates less than that, and a collection would be a tenth of it.
const roomy = 400

// collectLater puts off the first collection of the heap, and no other. It changes nothing where GOGC is set.
func collectLater() {
	usual := debug.SetGCPercent(roomy)
	if usual != 100 {
		debug.SetGCPercent(usual)
		return
	}
	// Nobody refers to it, so the first collection finds it.
	runtime.AddCleanup(new([64]byte), func(usual int) { debug.SetGCPercent(usual) }, usual)
}
