package relay

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsTouchedIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, ended := time.Now(), time.Duration(0)
		i := NewIdle(time.Minute, func() { ended = time.Since(began) })
		for range 5 {
			time.Sleep(40 * time.Second)
			i.Touch()
		}
		time.Sleep(time.Hour)
		i.Stop()
		if want := 5*40*time.Second + time.Minute; ended != want {
			t.Errorf("ended after %s, not %s", ended, want)
		}
		stopped := NewIdle(time.Minute, func() { t.Error("what was stopped has ended") })
		stopped.Stop()
		time.Sleep(time.Hour)
	})
}
