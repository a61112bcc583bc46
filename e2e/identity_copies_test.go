//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
)

// copies is the rule by which a share of the requests goes to another target too.
func (h *identity) copies(c idCombo) string {
	if !c.mirror() {
		return ""
	}
	to := h.apps[[]string{"http copies", "h2c copies"}[c.draw("copies", 2)]]
	return fmt.Sprintf("mirror: {to: %q, percent: 20, secrets: %v}", to, c.copiesSecrets())
}

func (c idCombo) copiesSecrets() bool { return c.draw("secrets", 2) == 1 }

// kept reports whether a copy is sent without a field.
func (j *idJob) kept(name string) bool {
	return (name == "authorization" || name == "cookie") && !j.combo.copiesSecrets()
}

// copied takes a copy of a request. What it answers belongs to nobody: X-Target tells clients.
func (a *idApp) copied(w http.ResponseWriter, r *http.Request, j *idJob) {
	if !j.combo.mirror() {
		a.h.mixed(j, a.name, "a copy of what is not to be copied", j.marker, dump(r))
		return
	}
	if a.content(r, j) {
		a.h.note("copies")
	}
	w.Header().Set("X-Target", a.name)
	_, _ = w.Write(stamped(j.marker, 100))
}
