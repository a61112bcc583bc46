package inspect

import (
	"encoding/binary"

	"padlock/internal/pool"
)

// log is what is known of a request, as entries one behind the other: what is noted is copied once, and taken apart
// when somebody looks. Its pages have no pointers, and never leave the record: they are lent again when it is forgotten.
// It is guarded by the record's lock.
type log struct {
	sheets []sheet
	first  [1]sheet // most requests need no more
	owed   int64    // bytes that it has grown by, and is not charged for yet
}

// sheet has entries that are whole.
type sheet struct {
	text []byte
	page *page // that it is part of; nil: it is memory of its own, as its entry is longer than a page
}

const (
	pageSize  = 4 << 10
	sheetSize = 64 // bytes beside its text, in a list that may grow
	entryHead = 5  // bytes: the kind, and the length of what follows
)

type page [pageSize]byte

var pages = pool.Of(func(p *page) []byte { return p[:] })

// kind is what an entry says.
type kind byte

const (
	arrived  kind = iota // the request's texts, as they came: the first entry
	received             // its fields
	sent                 // a target, with what it gets
	missed               // that target has not answered
	answered             // it has, with its fields
	interim
	response
	clientTrailers
	serverTrailers
	clientContent // a piece of it
	serverContent
)

// last is what is written to.
func (l *log) last() *sheet {
	if len(l.sheets) == 0 {
		return l.turn()
	}
	return &l.sheets[len(l.sheets)-1]
}

// turn adds an empty page.
func (l *log) turn() *sheet {
	p := pages.Get()
	return l.put(sheet{p[:0], p})
}

func (l *log) put(s sheet) *sheet {
	if l.sheets == nil {
		l.sheets = l.first[:0]
	}
	l.sheets = append(l.sheets, s)
	l.owed += int64(cap(s.text)) + sheetSize
	return &l.sheets[len(l.sheets)-1]
}

// drop gives the pages back. Nobody reads them any more.
func (l *log) drop() {
	for _, s := range l.sheets {
		if s.page != nil {
			pages.Put(s.page)
		}
	}
	*l = log{}
}

// add notes an entry, which write appends to what it is given. write may be called for nothing but that.
func (l *log) add(k kind, write Lines) {
	s := l.last()
	at := len(s.text)
	if cap(s.text)-at < entryHead {
		s, at = l.turn(), 0
	}
	room := s.text[at+entryHead : at+entryHead]
	entry := write(room)
	switch {
	case cap(entry) == cap(room):
		s.text = s.text[:at+entryHead+len(entry)]
	// It did not fit, and is memory of its own now.
	case entryHead+len(entry) <= pageSize:
		s, at = l.turn(), 0
		s.text = append(s.text[:entryHead], entry...)
	default:
		s, at = l.put(sheet{text: make([]byte, entryHead+len(entry))}), 0
		copy(s.text[entryHead:], entry)
	}
	head(s.text[at:], k, len(entry))
}

func head(entry []byte, k kind, size int) {
	entry[0] = byte(k)
	binary.LittleEndian.PutUint32(entry[1:], uint32(size))
}

// content notes a piece of content, in as many entries as that takes.
func (l *log) content(k kind, p []byte) {
	for len(p) > 0 {
		s := l.last()
		at := len(s.text)
		free := cap(s.text) - at - entryHead
		if free < min(len(p), entryHead) {
			s, at, free = l.turn(), 0, pageSize-entryHead
		}
		n := min(len(p), free)
		s.text = append(s.text[:at+entryHead], p[:n]...)
		head(s.text[at:], k, n)
		p = p[n:]
	}
}

// opening is the first entry, of which there is one.
func (l *log) opening() (first []byte) {
	for _, s := range l.sheets {
		// A long one leaves the page before it empty.
		if len(s.text) > 0 {
			first, _ = next(s.text)
			break
		}
	}
	return first
}

// next is an entry, and what is behind it.
func next(text []byte) (entry, rest []byte) {
	end := entryHead + int(binary.LittleEndian.Uint32(text[1:]))
	return text[entryHead:end], text[end:]
}

// each calls with every entry, in order. What it gives is the log's own, and changes when it is given back.
func (l *log) each(with func(k kind, entry []byte)) {
	for _, s := range l.sheets {
		for text := s.text; len(text) > 0; {
			k := kind(text[0])
			var entry []byte
			entry, text = next(text)
			with(k, entry)
		}
	}
}
