//go:build linux

package park

import (
	"slices"
	"testing"
	"time"
)

// Garbage is collected within three seconds of the last connection of many, not for a few, seldom while more are parked,
// and at no more than a thirtieth of a processor's time.
func TestGarbageIsCollectedSoonAfterTheLastOfMany(t *testing.T) {
	for _, c := range []struct {
		name   string
		parked []int // each second
		took   time.Duration
		want   []int // seconds at which it is collected
	}{
		{"many at once", []int{0, 5000, 0, 0, 0, 0, 0, 0}, 0, []int{1}},
		{"many in a few seconds", []int{1000, 1000, 1000, 1000, 1000, 0, 0, 0, 0, 0, 0, 0, 0}, 0, []int{0, 5}},
		{"few", []int{100, 100, 0, 0, 0, 0}, 0, nil},
		{"some all the time", []int{10, 10, 10, 10, 300, 10, 10, 10, 10, 10, 10}, 0, []int{4}},
		{"many all the time", slices.Repeat([]int{500}, 22), 0, []int{0, 10, 20}},
		{"a large heap", []int{1000, 1000, 0, 0, 0, 0, 0, 0, 0}, 150 * time.Millisecond, []int{0, 5}},
	} {
		var got []int
		var collect collections
		now := time.Now()
		for second, parked := range c.parked {
			collect.parked += parked
			if collect.due(now.Add(time.Duration(second) * time.Second)) {
				got = append(got, second)
				collect.took = c.took
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: collected at %v, want %v", c.name, got, c.want)
		}
	}
}
