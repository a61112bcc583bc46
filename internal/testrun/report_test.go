package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runs performs steps, and returns what they print and whether all passed.
func runs(t *testing.T, steps ...step) (string, error) {
	t.Helper()
	var out bytes.Buffer
	r := newReporter(&out)
	defer r.close()
	for _, s := range steps {
		r.step(t.Context(), s)
	}
	err := r.summary(1)
	return out.String(), err
}

// events is a step whose command prints the events of go test -json, and ends with an exit code.
func events(code string, lines ...string) step {
	return step{name: "events", args: []string{"sh", "-c", `printf '%s\n' "$@"; exit ` + code, "sh"}, tests: true, each: true}.with(lines)
}

func (s step) with(lines []string) step {
	s.args = append(s.args, lines...)
	return s
}

func TestASummaryCountsWhatRan(t *testing.T) {
	out, err := runs(t, events("0",
		`{"Action":"run","Package":"padlock/x","Test":"TestA"}`,
		`{"Action":"output","Package":"padlock/x","Test":"TestA","Output":"said by A\n"}`,
		`{"Action":"pass","Package":"padlock/x","Test":"TestA","Elapsed":2}`,
		`{"Action":"pass","Package":"padlock/x","Elapsed":3}`,
	))
	if err != nil || !strings.HasSuffix(out, "\n1 passed, 0 failed, 0 skipped\n") || !strings.Contains(out, "pass  x TestA  2.0 s") {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(out, "said by A") {
		t.Errorf("what a test that passed wrote is printed:\n%s", out)
	}
}

func TestAFailureIsShownWithItsOutput(t *testing.T) {
	out, err := runs(t, events("1",
		`{"Action":"output","Package":"padlock/x","Test":"TestA","Output":"said by A\n"}`,
		`{"Action":"fail","Package":"padlock/x","Test":"TestA","Elapsed":2}`,
	))
	if err == nil || !strings.Contains(out, "said by A") || !strings.HasSuffix(out, "\n0 passed, 1 failed, 0 skipped\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Waiting until others make room is not a test's time.
func TestWaitingForATurnTakesNoTime(t *testing.T) {
	out, err := runs(t, events("0",
		`{"Action":"cont","Package":"padlock/x","Test":"TestA"}`,
		`{"Action":"attr","Package":"padlock/x","Test":"TestA","Key":"turn","Value":"waits"}`,
		`{"Action":"attr","Package":"padlock/x","Test":"TestA","Key":"turn","Value":"comes"}`,
		`{"Action":"pass","Package":"padlock/x","Test":"TestA","Elapsed":200}`,
	))
	if err != nil || !strings.Contains(out, "pass  x TestA  0.") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What runs beside the others is waited for before the step that needs it, shown only if it fails, and fails the run
// then.
func TestAStepAside(t *testing.T) {
	dir := t.TempDir()
	aside := func(script string) step {
		return step{name: "install", args: []string{"sh", "-c", script}, dir: dir, aside: true, nice: 1}
	}
	test := events("0", `{"Action":"pass","Package":"padlock/x","Test":"TestA","Elapsed":2}`)
	test.args[2], test.dir, test.after = "test -e there && "+test.args[2], dir, []string{"install"}
	for script, fails := range map[string]bool{"sleep 0.3; touch there; echo said $((1+1))": false, "touch there; echo said $((1+1)); exit 1": true} {
		var out bytes.Buffer
		r := newReporter(&out)
		err := perform(t.Context(), r, []step{aside(script), {name: "lint", args: []string{"true"}}, test}, 0)
		r.close()
		if (err != nil) != fails || strings.Contains(out.String(), "said 2\n") != fails || !strings.Contains(out.String(), "pass  x TestA") {
			t.Errorf("%s: %v\n%s", script, err, out.String())
		}
		if err := os.Remove(filepath.Join(dir, "there")); err != nil {
			t.Error(err)
		}
	}
}

// Two programs of tests run beside each other: each keeps what its own tests write, and the end of both is waited for.
func TestTestsBesideTests(t *testing.T) {
	var out bytes.Buffer
	r := newReporter(&out)
	defer r.close()
	aside := events("1",
		`{"Action":"run","Package":"padlock/x","Test":"TestA"}`,
		`{"Action":"output","Package":"padlock/x","Test":"TestA","Output":"said by A\n"}`)
	aside.name, aside.aside = "beside", true
	aside.args[2] = "sleep 0.3; " + aside.args[2]
	other := events("0",
		`{"Action":"output","Package":"padlock/x","Test":"TestB","Output":"said by B\n"}`,
		`{"Action":"pass","Package":"padlock/x","Test":"TestB","Elapsed":2}`)
	err := perform(t.Context(), r, []step{aside, other}, 0)
	if text := out.String(); err == nil || !strings.Contains(text, "said by A") || strings.Contains(text, "said by B") || !strings.Contains(text, "step failed: beside") {
		t.Errorf("%v\n%s", err, text)
	}
}

// Every step that another one waits for stands before it.
func TestStepsWaitForStepsBeforeThem(t *testing.T) {
	steps, err := plan("test", "", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]bool{}
	for _, s := range steps {
		for _, name := range s.after {
			if !before[name] {
				t.Errorf("%s waits for %s", s.name, name)
			}
		}
		before[s.name] = true
	}
}

// A panic ends the program, and with it tests that nobody hears of again.
func TestAPanicIsShown(t *testing.T) {
	program := "echo '=== RUN   TestA'; echo '=== RUN   TestB'; echo 'panic: at the disco'; sleep 60 & exit 2" // and a server that it has started goes on
	began := time.Now()
	out, err := runs(t, step{name: "program", args: []string{"sh", "-c", program}, dir: ".", tests: true, plain: true})
	if err == nil || !strings.Contains(out, "panic: at the disco") || time.Since(began) > 40*time.Second {
		t.Errorf("%v after %s\n%s", err, time.Since(began), out)
	}
}

// A step that fails fails the run, though no test has: what does not compile, what lint finds, a test process that dies.
func TestAStepThatFailsFailsTheRun(t *testing.T) {
	out, err := runs(t, step{name: "lint", args: []string{"sh", "-c", "echo found something; exit 1"}}, events("0"))
	if err == nil || !strings.Contains(out, "found something") || !strings.Contains(out, "step failed: lint") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Tests end servers by SIGINT, which reaches no process whose parent ignored it when it started it.
func TestATestProgramCanBeInterrupted(t *testing.T) {
	interrupts := step{name: "program", args: []string{"sh", "-c", "kill -INT $$; echo SIGINT is ignored"}, dir: ".", tests: true, plain: true}
	if out, err := runs(t, interrupts); err == nil || !strings.Contains(out, "signal: interrupt") {
		t.Errorf("%v\n%s", err, out)
	}
	fails := step{name: "program", args: []string{"sh", "-c", "echo '=== RUN   TestA'; echo '    a_test.go:1: said by A'; echo '--- FAIL: TestA (2.00s)'; echo FAIL; exit 1"}, dir: ".", tests: true, plain: true}
	if out, err := runs(t, fails); err == nil || !strings.Contains(out, "said by A") || !strings.HasSuffix(out, "\n0 passed, 1 failed, 0 skipped\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What is tested without the race detector has nothing that it could find.
func TestSequentialPackagesStartNoGoroutine(t *testing.T) {
	t.Chdir("../..")
	for _, name := range sequential {
		files, err := filepath.Glob(filepath.Join(strings.TrimPrefix(name, "padlock/"), "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: %q, %v", name, files, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s starts a goroutine", file)
				case *ast.ImportSpec:
					if strings.HasPrefix(n.Path.Value, `"sync`) {
						t.Errorf("%s imports %s", file, n.Path.Value)
					}
				}
				return true
			})
		}
	}
}

func TestATestIsFoundByItsName(t *testing.T) {
	t.Chdir("../..")
	steps, err := plan("test", "^TestATestIsFoundByItsName$", "")
	if err != nil || len(steps) != 1 || steps[0].name != "./internal/testrun" {
		t.Errorf("%v %+v", err, steps)
	}
	if _, err := plan("test", "TestOfNobody$", ""); err == nil {
		t.Error("a test that is nowhere is run")
	}
	if _, err := plan("huge", "", ""); err == nil {
		t.Error("a level that is none is run")
	}
}
