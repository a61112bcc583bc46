package inspect

import (
	"cmp"
	"slices"
)

// series has records by their number, oldest first. Whatever is taken out, mostly the oldest, leaves a gap until the
// others move up, so that it does not matter how many there are. It is guarded by the store's lock.
type series struct {
	all  []numbered
	from int // where the oldest is
	live int // that are no gaps
}

// numbered is a record, or a gap where one was.
type numbered struct {
	id     uint64
	record *Record
}

// add puts a record behind the others, whose numbers are smaller.
func (s *series) add(c *Record) {
	if len(s.all) == cap(s.all) && s.live <= len(s.all)/2 {
		s.moveUp()
	}
	s.all = append(s.all, numbered{c.id, c})
	s.live++
}

func (s *series) moveUp() {
	s.all = slices.DeleteFunc(s.all, func(n numbered) bool { return n.record == nil })
	s.from = 0
}

// remove takes out a record that is there.
func (s *series) remove(id uint64) {
	i, _ := s.place(id)
	s.all[i].record = nil
	if s.live--; s.live == 0 {
		if s.all, s.from = s.all[:0], 0; cap(s.all) > fewRecords {
			s.all = nil
		}
		return
	}
	for s.all[s.from].record == nil {
		s.from++
	}
}

// fewRecords are so few that the room for them stays when there are none.
const fewRecords = 1 << 10

func (s *series) place(id uint64) (int, bool) {
	if s.from < len(s.all) && s.all[s.from].id == id {
		return s.from, true
	}
	i, ok := slices.BinarySearchFunc(s.all[s.from:], id, func(n numbered, id uint64) int { return cmp.Compare(n.id, id) })
	return s.from + i, ok
}

// oldest is the first, where there is one.
func (s *series) oldest() *Record { return s.all[s.from].record }

// find returns a record; nil: it is not there.
func (s *series) find(id uint64) *Record {
	if i, ok := s.place(id); ok {
		return s.all[i].record
	}
	return nil
}

// after are the records that have changed after so many changes, oldest first; 0: all of them.
func (s *series) after(changes uint64) (all []*Record) {
	for _, n := range s.all[s.from:] {
		if n.record != nil && (changes == 0 || n.record.change.Load() > changes) {
			all = append(all, n.record)
		}
	}
	return all
}
