// Command lint checks all packages and their tests: their types as Linux, macOS and Windows see them, and what go vet
// and staticcheck would say of them.
//
//	go run ./internal/lint
//
// It compiles nothing, and reads the standard library and all modules from source, without what their functions do: a
// minute, where go vet and staticcheck compile and look through all that padlock is made of first. What they would find
// by that, such as a function of a module that only calls Printf, goes unseen. Nothing is done where the same files have
// passed before.
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
	"runtime"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "lint:", err)
		os.Exit(1)
	}
}

// run checks the module in a directory, and prints what is wrong with it.
func run(dir string) error {
	mark, err := markOf(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(mark); err == nil {
		fmt.Println("these files have passed before:", mark)
		return nil
	}

	found, err := check(dir)
	for _, problem := range found {
		fmt.Fprintln(os.Stderr, problem)
	}
	if err != nil || len(found) > 0 {
		return errors.Join(err, fmt.Errorf("%d problems", len(found)))
	}

	if err := os.MkdirAll(filepath.Dir(mark), 0o700); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o600)
}

// systems are those that padlock is made for.
var systems = []string{"linux", "darwin", "windows"}

// check returns what is wrong with the packages of the module in a directory, with the place of each. Modules that it
// uses count as right.
func check(dir string) (found []string, err error) {
	for _, system := range systems {
		all, err := load(dir, system)
		if err != nil {
			return found, fmt.Errorf("%s: %w", system, err)
		}

		problems := typeErrors(all)
		if system == runtime.GOOS && len(problems) == 0 {
			if problems, err = analyze(all); err != nil {
				return found, err
			}
		}
		for _, problem := range problems {
			if system != runtime.GOOS {
				problem = system + ": " + problem
			}
			found = append(found, problem)
		}
	}

	return found, nil
}

// load returns the packages of the module in a directory with their tests, and those of the end-to-end tests on this
// system.
func load(dir, system string) ([]*packages.Package, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	config := &packages.Config{
		Mode:  packages.LoadAllSyntax | packages.NeedModule | packages.NeedForTest,
		Dir:   root,
		Env:   append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0"),
		Tests: true,
		ParseFile: func(files *token.FileSet, name string, text []byte) (*ast.File, error) {
			file, err := parser.ParseFile(files, name, text, parser.ParseComments|parser.SkipObjectResolution)
			if file != nil && !within(root, name) && !neverReturns[filepath.Base(filepath.Dir(name))] {
				withoutBodies(file)
			}
			return file, err
		},
	}
	if system == runtime.GOOS {
		config.BuildFlags = []string{"-tags=e2e"}
	}

	all, err := packages.Load(config, "./...")
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("there are no packages")
	}

	// The main programs of tests are written by go.
	return slices.DeleteFunc(all, func(p *packages.Package) bool { return strings.HasSuffix(p.ID, ".test") }), nil
}

func within(root, name string) bool {
	return strings.HasPrefix(name, root+string(filepath.Separator))
}

// neverReturns are the packages whose functions end tests and programs. What they do is read, as nothing behind them is
// reached.
var neverReturns = map[string]bool{"testing": true, "log": true, "os": true}

// withoutBodies leaves out what functions do: who calls them needs to know their types alone.
func withoutBodies(file *ast.File) {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			f.Body = nil
		}
	}
}

// typeErrors are those of the packages themselves, and of nothing that they import.
func typeErrors(all []*packages.Package) (found []string) {
	for _, p := range all {
		for _, e := range p.Errors {
			found = append(found, e.Error())
		}
	}
	// A package and its test variant report the same problem.
	slices.Sort(found)
	return slices.Compact(found)
}
