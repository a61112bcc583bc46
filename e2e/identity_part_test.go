//go:build e2e

package e2e

import "slices"

// idPart is a life's part of the whole product: for each front the combos with some of the routes, as a padlock with all of them would do little
// else than read its configuration.
type idPart struct {
	offset int // of all parts, by the run's seed
	first  int // of the combos of each front
	count  int
	turns  [4]int // by front
	open   [4]map[idCombo]bool
}

// idPasses is how often a life asks for a combo that it has not met: a request can be lost with its connection.
const idPasses = 4

func (p *idPart) met(c idCombo) { delete(p.open[c[idFront]], c) }

// insists reports whether the run has to meet the whole product.
func (h *identity) insists() bool { return *idWhole && *idRequests >= 3*h.whole.size()/2 }

// divide chooses the part of a life, and the routes that it needs.
func (h *identity) divide(life int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	used := map[int]bool{}
	for _, n := range h.always[0] {
		used[n] = true
	}

	size := h.whole.size() / len(h.whole.members[idFront])
	h.part = idPart{offset: h.part.offset, first: size * life / h.lives}
	if *idWhole {
		h.part.count = size*(life+1)/h.lives - h.part.first
	}
	if !h.insists() {
		h.part.count = min(h.part.count, *idRequests/4/h.lives)
	}

	for _, front := range h.whole.members[idFront] {
		h.part.open[front] = map[idCombo]bool{}
		for n := range h.part.count {
			c := h.part.at(h.whole, front, n)
			used[h.product.dress(c, h.seed).route()] = true
			if !h.combos[c] {
				h.part.open[front][c] = true
			}
		}
	}

	h.routes = h.routes[:0]
	for n := range used {
		h.routes = append(h.routes, n)
	}
	slices.Sort(h.routes)
}

// at is one of the combos of a front.
func (p *idPart) at(whole *idProduct, front uint8, n int) idCombo {
	size := whole.size() / len(whole.members[idFront])
	c := whole.at((p.offset + p.first + n) % size)
	c[idFront] = front
	return c
}

// unmet is the next combo of the life's part that has not been met; false: there is none.
func (h *identity) unmet(front uint8) (c idCombo, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := &h.part; len(p.open[front]) > 0 && p.turns[front] < idPasses*p.count; {
		c = p.at(h.whole, front, scattered(p.turns[front]%p.count, p.count))
		p.turns[front]++
		if p.open[front][c] {
			return h.product.dress(c, h.seed), true
		}
	}
	return c, false
}

// owes reports whether a front has combos to ask for, however many requests the life has had.
func (h *identity) owes(front uint8) bool {
	if !h.insists() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.part.open[front]) > 0 && h.part.turns[front] < idPasses*h.part.count
}
