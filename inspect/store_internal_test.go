package inspect

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A request that is forgotten while somebody notes something leaves nothing behind, although nobody waited for that.
func TestWhatIsForgottenWhileItIsWrittenLeavesNothing(t *testing.T) {
	s := NewStore(1 << 20)
	c := s.Begin(&Limits{Site: "a", Requests: 9, Body: 1 << 10}, time.Now(), &Arrival{}, nil, nil)
	if !c.open() {
		t.Fatal("it is not remembered")
	}
	c.flowing()
	s.Clear()
	if len(c.log.sheets) == 0 {
		t.Error("what is written to was given back")
	}
	c.close()
	if len(c.log.sheets) > 0 || c.flow != nil || c.open() {
		t.Errorf("%+v", c)
	}
}

func TestRecordsAreFoundWhicheverAreTakenOut(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var s series
	var there []uint64
	id := uint64(0)
	for range 20_000 {
		if len(there) < 300 && random.IntN(2) == 0 || len(there) == 0 {
			id += 1 + random.Uint64N(3)
			s.add(&Record{id: id})
			there = append(there, id)
		} else {
			i := 0
			if random.IntN(3) == 0 {
				i = random.IntN(len(there))
			}
			s.remove(there[i])
			there = slices.Delete(there, i, i+1)
		}
		if s.live != len(there) || len(there) > 0 && s.oldest().id != there[0] || s.find(id+1) != nil {
			t.Fatalf("%d are there, not %d", s.live, len(there))
		}
		if len(s.all) > 2*300+2 {
			t.Fatalf("%d places for %d", len(s.all), s.live)
		}
	}
	var got []uint64
	for _, c := range s.after(0) {
		got = append(got, c.id)
		if s.find(c.id) != c {
			t.Errorf("%d is not found", c.id)
		}
	}
	if !slices.Equal(got, there) {
		t.Errorf("%v, not %v", got, there)
	}
}
