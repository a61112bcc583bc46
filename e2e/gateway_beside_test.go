//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What a gateway does for apps, with nginx, HAProxy and Caddy beside padlock: docs/comparison.md has what each of them
// makes of the same requests, which UPDATE_DOCS=1 writes. Padlock does what stands there.
func TestTheGatewayBesideOthers(t *testing.T) {
	works(t)
	for _, name := range []string{"nginx", "haproxy", "caddy", "node", "curl", "redis-server", "openssl"} {
		need(t, name)
	}
	var stderr bytes.Buffer
	c := exec.Command(need(t, "python3"), filepath.Join("testdata", "gateway.py"), plain)
	c.Stderr, c.Env = &stderr, append(os.Environ(), "NO_COLOR=1", "PYTHONDONTWRITEBYTECODE=1")
	table, err := c.Output()
	if err != nil || bytes.Contains(table, []byte("FAILED")) {
		t.Fatalf("%v\n%s\n%s", err, table, stderr.Bytes())
	}
	t.Logf("\n%s", table)

	const file, begin, end = "../docs/comparison.md", "<!-- tried: begin -->\n", "<!-- tried: end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	documented, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no markers", file)
	}
	if os.Getenv("UPDATE_DOCS") == "1" {
		if err := os.WriteFile(file, []byte(head+begin+string(table)+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	// The versions of the others depend on the machine.
	tried, says := ours(string(table)), ours(documented)
	for i, row := range tried {
		// On a slow machine Redis does not answer in time, and each node counts for itself: proxy/rates_shared_test.go.
		if strings.HasPrefix(row, "The same limit, shared by two nodes") {
			continue
		}
		if i >= len(says) || says[i] != row {
			t.Errorf("%s does not say %q: run this test with UPDATE_DOCS=1", file, row)
		}
	}
}

// ours are the first and the last cell of each row.
func ours(table string) (rows []string) {
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		rows = append(rows, strings.TrimSpace(cells[0])+": "+strings.TrimSpace(cells[len(cells)-1]))
	}
	return rows
}
