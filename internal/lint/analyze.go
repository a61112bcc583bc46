package main

import (
	"fmt"
	"go/token"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/analysis/passes/appends"
	"golang.org/x/tools/go/analysis/passes/asmdecl"
	"golang.org/x/tools/go/analysis/passes/assign"
	"golang.org/x/tools/go/analysis/passes/atomic"
	"golang.org/x/tools/go/analysis/passes/bools"
	"golang.org/x/tools/go/analysis/passes/buildtag"
	"golang.org/x/tools/go/analysis/passes/cgocall"
	"golang.org/x/tools/go/analysis/passes/composite"
	"golang.org/x/tools/go/analysis/passes/copylock"
	"golang.org/x/tools/go/analysis/passes/defers"
	"golang.org/x/tools/go/analysis/passes/directive"
	"golang.org/x/tools/go/analysis/passes/errorsas"
	"golang.org/x/tools/go/analysis/passes/framepointer"
	"golang.org/x/tools/go/analysis/passes/hostport"
	"golang.org/x/tools/go/analysis/passes/httpresponse"
	"golang.org/x/tools/go/analysis/passes/ifaceassert"
	"golang.org/x/tools/go/analysis/passes/loopclosure"
	"golang.org/x/tools/go/analysis/passes/lostcancel"
	"golang.org/x/tools/go/analysis/passes/nilfunc"
	"golang.org/x/tools/go/analysis/passes/printf"
	"golang.org/x/tools/go/analysis/passes/shift"
	"golang.org/x/tools/go/analysis/passes/sigchanyzer"
	"golang.org/x/tools/go/analysis/passes/slog"
	"golang.org/x/tools/go/analysis/passes/stdmethods"
	"golang.org/x/tools/go/analysis/passes/stdversion"
	"golang.org/x/tools/go/analysis/passes/stringintconv"
	"golang.org/x/tools/go/analysis/passes/structtag"
	"golang.org/x/tools/go/analysis/passes/testinggoroutine"
	"golang.org/x/tools/go/analysis/passes/tests"
	"golang.org/x/tools/go/analysis/passes/timeformat"
	"golang.org/x/tools/go/analysis/passes/unmarshal"
	"golang.org/x/tools/go/analysis/passes/unreachable"
	"golang.org/x/tools/go/analysis/passes/unsafeptr"
	"golang.org/x/tools/go/analysis/passes/unusedresult"
	"golang.org/x/tools/go/analysis/passes/waitgroup"
	"golang.org/x/tools/go/packages"
	"honnef.co/go/tools/analysis/lint"
	"honnef.co/go/tools/simple"
	"honnef.co/go/tools/staticcheck"
	"honnef.co/go/tools/stylecheck"
	"honnef.co/go/tools/unused"
)

// analyze returns what the checks find in packages whose types are right.
func analyze(all []*packages.Package) (found []string, err error) {
	trim(all)
	tested := map[string]bool{} // packages of which there is a variant with all of it, and its tests
	for _, p := range all {
		tested[p.PkgPath] = tested[p.PkgPath] || p.ForTest != ""
	}
	all = slices.DeleteFunc(all, func(p *packages.Package) bool { return p.ForTest == "" && tested[p.PkgPath] })

	graph, err := checker.Analyze(checks(), all, nil)
	if err != nil {
		return nil, err
	}

	ignoring := directives(all)
	for _, action := range graph.Roots {
		if action.Err != nil {
			return nil, fmt.Errorf("%s: %w", action, action.Err)
		}
		name, files := action.Analyzer.Name, action.Package.Fset
		report := func(place token.Position, message string) {
			if !ignoring.has(name, place) {
				found = append(found, fmt.Sprintf("%s: %s (%s)", place, message, name))
			}
		}

		for _, d := range action.Diagnostics {
			report(files.Position(d.Pos), d.Message)
		}
		if result, ok := action.Result.(unused.Result); ok {
			for _, object := range result.Unused {
				report(object.Position, fmt.Sprintf("%s %s is unused", object.Kind, object.Name))
			}
		}
	}

	found = append(found, ignoring.idle()...)
	slices.Sort(found)
	return slices.Compact(found), nil
}

// trim has the checks look at what the packages import themselves, and at nothing behind it, which memory has no room
// for. Without bodies of functions some imports are of no use there, which is no error.
func trim(all []*packages.Package) {
	own := func(p *packages.Package) bool { return p.Module != nil && p.Module.Main }
	direct := map[*packages.Package]bool{}
	packages.Visit(all, nil, func(p *packages.Package) {
		p.IllTyped, p.Errors, p.TypeErrors = false, nil, nil
		for _, imported := range p.Imports {
			direct[imported] = direct[imported] || own(p)
		}
	})
	for p := range direct {
		if !own(p) {
			p.Imports = nil
		}
		if !direct[p] {
			p.Syntax, p.TypesInfo = nil, nil
		}
	}
}

// ignored is a comment that has a problem not reported: //lint:ignore, of the next line, or //lint:file-ignore.
type ignored struct {
	place  token.Position
	file   bool
	checks []string // patterns
	met    bool
}

type ignorings []*ignored

func directives(all []*packages.Package) (found ignorings) {
	for _, p := range all {
		for _, d := range lint.ParseDirectives(p.Syntax, p.Fset) {
			if len(d.Arguments) == 0 || d.Command != "ignore" && d.Command != "file-ignore" {
				continue
			}
			found = append(found, &ignored{
				place: p.Fset.Position(d.Node.Pos()), file: d.Command == "file-ignore", checks: strings.Split(d.Arguments[0], ","),
			})
		}
	}
	return found
}

func (all ignorings) has(check string, place token.Position) (has bool) {
	for _, d := range all {
		matches := func(pattern string) bool { match, _ := filepath.Match(pattern, check); return match }
		if d.place.Filename == place.Filename && (d.file || d.place.Line == place.Line) && slices.ContainsFunc(d.checks, matches) {
			d.met, has = true, true
		}
	}
	return has
}

// idle are those of single lines that nothing needs any more.
func (all ignorings) idle() (found []string) {
	for _, d := range all {
		if !d.met && !d.file {
			found = append(found, fmt.Sprintf("%s: the comment ignores %s, of which there is none: remove it", d.place, strings.Join(d.checks, ",")))
		}
	}
	return found
}

// checks are those of go vet, and those that staticcheck makes unless it is configured.
func checks() []*analysis.Analyzer {
	all := slices.Clone(vet)
	for _, one := range slices.Concat(simple.Analyzers, staticcheck.Analyzers, stylecheck.Analyzers) {
		if !one.Doc.NonDefault && !slices.Contains(notDefault, one.Analyzer.Name) {
			all = append(all, one.Analyzer)
		}
	}
	return append(all, unused.Analyzer.Analyzer)
}

// notDefault are left out by staticcheck's default configuration.
var notDefault = []string{"SA9003", "ST1000", "ST1003", "ST1016", "ST1020", "ST1021", "ST1022", "ST1023"}

// vet is what go vet checks: cmd/vet.
var vet = []*analysis.Analyzer{
	appends.Analyzer, asmdecl.Analyzer, assign.Analyzer, atomic.Analyzer, bools.Analyzer, buildtag.Analyzer,
	cgocall.Analyzer, composite.Analyzer, copylock.Analyzer, defers.Analyzer, directive.Analyzer,
	errorsas.Analyzer, framepointer.Analyzer, httpresponse.Analyzer, hostport.Analyzer, ifaceassert.Analyzer,
	loopclosure.Analyzer, lostcancel.Analyzer, nilfunc.Analyzer, printf.Analyzer, shift.Analyzer,
	sigchanyzer.Analyzer, slog.Analyzer, stdmethods.Analyzer, stdversion.Analyzer, stringintconv.Analyzer,
	structtag.Analyzer, tests.Analyzer, testinggoroutine.Analyzer, timeformat.Analyzer, unmarshal.Analyzer,
	unreachable.Analyzer, unsafeptr.Analyzer, unusedresult.Analyzer, waitgroup.Analyzer,
}
