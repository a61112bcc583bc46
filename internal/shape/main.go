// Command shape prints how the lines of padlock's code read, beside the goals. It passes no judgement: the exit code is
// 0.
//
//	go run ./internal/shape             the measures
//	go run ./internal/shape -worst 10   and the ten functions that need paragraphs most
//
// Tests, generated code and strings for people are left out.
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

func main() {
	worst := flag.Int("worst", 0, "list that many functions without paragraphs, the longest first")
	flag.Parse()

	m, err := measure(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "shape:", err)
		os.Exit(1)
	}
	m.print(os.Stdout, *worst)
}

const (
	long       = 10  // lines from which on a function's density counts
	paragraphs = 15  // lines from which on a function has paragraphs
	complex    = 15  // branches from which on a function asks for a second look
	column     = 120 // where lines end
)

// measures are the counts of all files.
type measures struct {
	lines, wide int

	bodies, blank, comments int // lines of functions' bodies, and of these blank ones and those that are comments
	statements, dense       int // in functions that are long, and the lines of their bodies
	functions, complex      int
	solid                   []solid
}

// solid is a function without a blank line that should have paragraphs.
type solid struct {
	at    string
	lines int
}

// measure reads all packages below a directory.
func measure(dir string) (*measures, error) {
	m := &measures{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if name := entry.Name(); path != dir && (name == "testdata" || strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			return m.file(path)
		}
		return nil
	})

	slices.SortFunc(m.solid, func(a, b solid) int { return b.lines - a.lines })
	return m, err
}

func (m *measures) file(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}

	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, content, parser.ParseComments)
	if err != nil || ast.IsGenerated(file) {
		return err
	}

	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	for _, line := range lines {
		m.lines++
		// Texts for people are as long as they have to be.
		if utf8.RuneCountInString(line) > column && !strings.ContainsAny(line, "\"`") {
			m.wide++
		}
	}

	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			m.function(set, f, lines)
		}
	}

	return nil
}

func (m *measures) function(set *token.FileSet, f *ast.FuncDecl, lines []string) {
	first, last := set.Position(f.Body.Lbrace).Line, set.Position(f.Body.Rbrace).Line
	m.functions++
	if branches(f) > complex {
		m.complex++
	}
	if last <= first+1 {
		return
	}

	body := lines[first : last-1]
	blank := 0
	for _, line := range body {
		switch text := strings.TrimSpace(line); {
		case text == "":
			blank++
		case strings.HasPrefix(text, "//"):
			m.comments++
		}
	}

	m.bodies += len(body)
	m.blank += blank
	if len(body) >= long {
		m.statements += statements(f.Body)
		m.dense += len(body)
	}

	if len(body) >= paragraphs && blank == 0 {
		m.solid = append(m.solid, solid{fmt.Sprintf("%s:%d %s", set.Position(f.Pos()).Filename, first, f.Name.Name), len(body)})
	}
}

// statements are those in a body, those of functions in it included.
func statements(body *ast.BlockStmt) (n int) {
	ast.Inspect(body, func(node ast.Node) bool {
		switch node.(type) {
		case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause, nil:
		case ast.Stmt:
			n++
		}
		return true
	})
	return n
}

// branches is McCabe's cyclomatic complexity.
func branches(f *ast.FuncDecl) int {
	n := 1
	ast.Inspect(f.Body, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			// default adds no branch.
			if x.List != nil {
				n++
			}
		case *ast.CommClause:
			if x.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if x.Op == token.LAND || x.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

func (m *measures) print(w io.Writer, worst int) {
	percent := func(part, of int) float64 { return 100 * float64(part) / float64(max(of, 1)) }
	fmt.Fprintf(w, "shape: statements per line in functions of %d lines and more: %.2f (goal 0.70)\n", long, float64(m.statements)/float64(max(m.dense, 1)))
	fmt.Fprintf(w, "shape: blank lines in bodies: %.1f %% (goal 7 %%)\n", percent(m.blank, m.bodies))
	fmt.Fprintf(w, "shape: comment lines in bodies: %.1f %% (goal 4 %%)\n", percent(m.comments, m.bodies))
	fmt.Fprintf(w, "shape: lines over %d characters, without strings: %.1f %% (goal 0.5 %%)\n", column, percent(m.wide, m.lines))
	fmt.Fprintf(w, "shape: functions with a complexity over %d: %.1f %% (goal 1 %%)\n", complex, percent(m.complex, m.functions))
	fmt.Fprintf(w, "shape: functions of %d lines and more without a paragraph: %d (go run ./internal/shape -worst 10 lists them)\n", paragraphs, len(m.solid))
	for _, s := range m.solid[:min(worst, len(m.solid))] {
		fmt.Fprintf(w, "  %s: %d lines\n", s.at, s.lines)
	}
}
