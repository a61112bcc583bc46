package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// faulty is a module with one fault of each kind, and its comments say which.
const faulty = `
-- go.mod --
module example.com/faulty
go 1.26.0
-- fine.go --
package example

import "fmt"

func Fine() error { return fmt.Errorf("%d", 1) }
-- vet.go --
package example

import "fmt"

func Vet() { fmt.Println("%d", 1) } // printf
-- staticcheck.go --
package example

import "strings"

func Staticcheck(s string) bool { return strings.Trim(s, "aab") == s } // SA1024
-- unused.go --
package example

func nobody() {} // U1000

func tests() {} // only tests need it
-- ignored.go --
package example

import "os"

//lint:ignore SA1019 it is known
var Ignored = os.SEEK_SET

//lint:ignore SA1019 nothing is wrong any more
var Stale = os.Args // ignores

var Deprecated = os.SEEK_CUR // SA1019
-- fine_test.go --
package example

import "testing"

func TestFine(t *testing.T) {
	tests()
}
-- never_test.go --
package example

import "testing"

func TestNever(t *testing.T) {
	n := len(t.Name()) // SA4006
	n = 2
	t.Log(n)
}
`

// elsewhere is a module that is wrong on one system alone.
const elsewhere = `
-- go.mod --
module example.com/faulty
go 1.26.0
-- here.go --
package example
-- there_windows.go --
package example

var Wrong int = "text" // cannot use
`

// The checks of go vet and of staticcheck find what is wrong, and nothing else; comments ignore what they name.
func TestWhatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"the checks": faulty, "another system": elsewhere} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var want []string // as FILE:LINE: WORD
			for _, file := range txtar.Parse([]byte(text)).Files {
				if err := os.WriteFile(filepath.Join(dir, file.Name), file.Data, 0o600); err != nil {
					t.Fatal(err)
				}
				if !strings.HasSuffix(file.Name, ".go") {
					continue
				}
				for i, line := range strings.Split(string(file.Data), "\n") {
					if _, word, ok := strings.Cut(line, " // "); ok && !strings.HasPrefix(word, "only") {
						want = append(want, filepath.Join(dir, file.Name)+":"+strconv.Itoa(i+1)+" "+word)
					}
				}
			}

			found, err := check(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range want {
				place, word, _ := strings.Cut(w, " ")
				at := slices.IndexFunc(found, func(f string) bool { return strings.Contains(f, place+":") && strings.Contains(f, word) })
				if at < 0 {
					t.Errorf("%s is not found", w)
					continue
				}
				found = slices.Delete(found, at, at+1)
			}
			for _, f := range found {
				t.Errorf("found in vain: %s", f)
			}
		})
	}
}
