package gateway

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// TestMain runs eight tests at once even on a machine with few processors, where -parallel does not say otherwise: most of them wait.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", strconv.Itoa(max(8, runtime.GOMAXPROCS(0))))
	}
	os.Exit(m.Run())
}
