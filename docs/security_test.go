package docs_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// No promise stands in these documents without a test that proves it, and no test is named that is not there.
func TestEveryPromiseHasItsTest(t *testing.T) {
	tests := testsOfTheTree(t)
	for _, table := range []struct {
		file, heading string
		rows          int
	}{{"security.md", "Threats and promises", 25}, {"reliability.md", "Real backends, clients and operations", 30}} {
		content, err := os.ReadFile(table.file)
		if err != nil {
			t.Fatal(err)
		}
		rows := threats(string(content), table.heading)
		if len(rows) < table.rows {
			t.Errorf("%s: the table has %d rows", table.file, len(rows))
		}
		for _, cells := range rows {
			if len(cells) != 3 || cells[0] == "" || cells[1] == "" || !testName.MatchString(cells[2]) {
				t.Errorf("%s: no situation with its promise and its test: %q", table.file, cells)
			}
		}
		for _, m := range testName.FindAllStringSubmatch(string(content), -1) {
			if !tests[m[1]] {
				t.Errorf("%s: there is no test %s", table.file, m[1])
			}
		}
	}
}

// runOf is the pattern of a command that a table names.
var runOf = regexp.MustCompile(`-run '?([A-Za-z0-9$\\|]+)`)

// Every fault of docs/reliability.md names a command that runs a test.
func TestEveryFaultHasItsCommand(t *testing.T) {
	content, err := os.ReadFile("reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testsOfTheTree(t)
	found := 0
	for _, m := range runOf.FindAllStringSubmatch(string(content), -1) {
		for pattern := range strings.SplitSeq(strings.ReplaceAll(m[1], `\`, ""), "|") {
			run, err := regexp.Compile(pattern)
			if err != nil {
				t.Fatal(err)
			}
			found++
			if !slices.ContainsFunc(slices.Collect(maps.Keys(tests)), run.MatchString) {
				t.Errorf("no test is run by %s", pattern)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d commands are named", found)
	}
}
