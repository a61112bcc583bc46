package daemon

import (
	"sync/atomic"
	"time"
)

// floor counts as heap and takes no memory, as nobody writes to it. Without it the heap is so small that a busy padlock
// would collect it every few milliseconds.
type floor struct {
	timer *time.Timer
	bytes atomic.Pointer[[16 << 20]byte]
}

// floorAfter is how long padlock serves without a floor: to make one begins a collection, for which neither the start nor
// the first requests wait.
const floorAfter = time.Second

func raiseFloor() *floor {
	f := new(floor)
	f.timer = time.AfterFunc(floorAfter, func() { f.bytes.Store(new([16 << 20]byte)) })
	return f
}

func (f *floor) lower() {
	f.timer.Stop()
	f.bytes.Store(nil)
}
