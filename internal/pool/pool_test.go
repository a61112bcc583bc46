package pool

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// A string is never a view of memory that changes: package socket alone has to do with unsafe, for system calls. And only this package
// pools, as only it poisons.
func TestTextIsOwnedAndOnlyBytesArePooled(t *testing.T) {
	files := token.NewFileSet()
	seen := 0
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		seen++
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		for _, i := range file.Imports {
			if i.Path.Value == `"unsafe"` && dir != "../../proxy/socket" {
				t.Errorf("%s imports unsafe: text is copied, not viewed", files.Position(i.Pos()))
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			from, ok := selector.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch name := from.Name + "." + selector.Sel.Name; name {
			case "unsafe.String", "unsafe.Slice":
				t.Errorf("%s: %s makes a view of memory that others may change", files.Position(n.Pos()), name)
			case "sync.Pool":
				if dir != "../../internal/pool" {
					t.Errorf("%s: objects are not pooled, and buffers by internal/pool, which poisons them", files.Position(n.Pos()))
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Fatalf("only %d files were looked at", seen)
	}
}
