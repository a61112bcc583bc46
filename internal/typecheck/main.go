// Command typecheck checks the types of all packages and their tests as another system sees them.
//
//	go run ./internal/typecheck darwin windows
//
// It reads everything from source, the standard library and all modules too, and generates no code: seconds, where
// compiling for a system for the first time takes minutes. What only the linker finds is left to the release.
//
// The exit code is 1 where a package has errors, which are printed with their places.
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	failed := false
	for _, system := range os.Args[1:] {
		found, err := check(".", system)
		if err != nil {
			fmt.Fprintf(os.Stderr, "typecheck: %s: %v\n", system, err)
			os.Exit(1)
		}

		for _, problem := range found {
			failed = true
			fmt.Fprintf(os.Stderr, "%s: %s\n", system, problem)
		}
	}

	if failed {
		os.Exit(1)
	}
}

// check returns what is wrong with the packages of the module in a directory, with the place of each. Modules that it
// uses count as right.
func check(dir, system string) (found []string, err error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	all, err := packages.Load(&packages.Config{
		Mode:  packages.LoadAllSyntax,
		Dir:   root,
		Env:   append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0"),
		Tests: true,
		ParseFile: func(files *token.FileSet, name string, text []byte) (*ast.File, error) {
			file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
			if file != nil && !strings.HasPrefix(name, root+string(filepath.Separator)) {
				withoutBodies(file)
			}
			return file, err
		},
	}, "./...")
	if err != nil {
		return nil, err
	}

	if len(all) == 0 {
		return nil, errors.New("there are no packages")
	}

	seen := map[string]bool{}
	for _, p := range all {
		if strings.HasSuffix(p.ID, ".test") {
			continue // the main program of tests, which go writes
		}
		for _, e := range p.Errors {
			// A package and its test variant report the same problem.
			if problem := e.Error(); !seen[problem] {
				seen[problem] = true
				found = append(found, problem)
			}
		}
	}

	return found, nil
}

// withoutBodies leaves out what functions do: who calls them needs to know their types alone.
func withoutBodies(file *ast.File) {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			f.Body = nil
		}
	}
}
