package handshake

import "sync"

// Packets remembers the last handshakes as pcapng with the secrets that decrypt them, as a Capture writes them. It is
// made only where the operator has agreed to give secrets away. It is safe for use from many goroutines.
type Packets struct {
	mu    sync.Mutex
	order []uint64
	files map[uint64][]byte
	size  int // bytes of all files
	most  int
}

// NewPackets remembers as many handshakes as fit into a number of bytes.
func NewPackets(bytes int) *Packets { return &Packets{files: map[uint64][]byte{}, most: bytes} }

// Of is the file of a handshake; nil where it is not remembered.
func (p *Packets) Of(id uint64) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.files[id]
}

func (p *Packets) add(t *trace, e *Event) {
	if t.count == 0 {
		return
	}

	file := appendHandshake(appendSectionHeader(nil), t, e)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.order, p.files[e.ID], p.size = append(p.order, e.ID), file, p.size+len(file)
	for p.size > p.most {
		oldest := p.order[0]
		p.size -= len(p.files[oldest])
		delete(p.files, oldest)
		p.order = p.order[1:]
	}
}
