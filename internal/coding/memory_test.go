//go:build !race && !poison

package coding

import (
	"runtime"
	"testing"
)

// The memory that encoders are counted with is what they take.
func TestEncodersTakeTheMemoryThatTheySay(t *testing.T) {
	content := sample(1, 1<<20)
	for _, coding := range All() {
		for name, level := range Levels {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.GC() // a pool forgets in two steps
			runtime.ReadMemStats(&before)
			e := NewEncoder(coding, level)
			for at := 0; at < len(content); at += roomSize {
				if err := e.Write(content[at : at+roomSize]); err != nil {
					t.Fatal(err)
				}
				e.out = e.out[:0]
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			took := int64(after.HeapAlloc) - int64(before.HeapAlloc)
			t.Logf("%s %s: %d KiB", coding, name, took>>10)
			if said := Memory(coding, level); took > said || took < said/4 {
				t.Errorf("%s %s takes %d KiB, and is counted with %d", coding, name, took>>10, said>>10)
			}
			runtime.KeepAlive(e)
		}
	}
}
