package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Z0-9][A-Za-z0-9_]*)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z0-9][A-Za-z0-9_]*)\(`)
)

// testsOfTheTree are the names of all tests below the module's root.
func testsOfTheTree(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(source, -1) {
			all[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(all) < 100 {
		t.Fatalf("%d tests found, %v", len(all), err)
	}
	return all
}

// threats are the rows of the table below a heading, as cells.
func threats(text, heading string) (rows [][]string) {
	_, after, _ := strings.Cut(text, "\n## "+heading+"\n")
	for line := range strings.Lines(after) {
		switch {
		case strings.HasPrefix(line, "|"):
			var cells []string
			for cell := range strings.SplitSeq(strings.Trim(strings.TrimSpace(line), "|"), "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			rows = append(rows, cells)
		case len(rows) > 0:
			return rows[2:] // without the table's head
		}
	}
	return nil
}

// No promise stands in docs/security.md without a test that proves it, and no test is named that is not there.
func TestEveryPromiseHasItsTest(t *testing.T) {
	content, err := os.ReadFile("security.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testsOfTheTree(t)
	rows := threats(string(content), "Threats and promises")
	if len(rows) < 25 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	for _, cells := range rows {
		if len(cells) != 3 || cells[0] == "" || cells[1] == "" || !testName.MatchString(cells[2]) {
			t.Errorf("no threat with its promise and its test: %q", cells)
		}
	}
	for _, m := range testName.FindAllStringSubmatch(string(content), -1) {
		if !tests[m[1]] {
			t.Errorf("there is no test %s", m[1])
		}
	}
}
