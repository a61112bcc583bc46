package docs_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is what the packages below a folder may import of ours, besides each other and internal/. Nothing in internal/ may import
// what is not there, but terminal, which shows what handshake has recorded.
var mayImport = map[string][]string{
	"cmd":       {"daemon", "dev", "certs", "proxy", "console", "discovery", "config", "traffic", "inspect", "handshake", "hostinfo", "lab"},
	"daemon":    {"certs", "proxy", "console", "discovery", "config", "traffic", "inspect", "tracing", "handshake", "hostinfo"},
	"dev":       {"discovery", "config"},
	"certs":     {"config", "handshake", "hostinfo"},
	"proxy":     {"config", "traffic", "inspect", "tracing", "handshake"},
	"console":   {"config", "traffic", "inspect", "handshake", "hostinfo"},
	"discovery": {"config"},
	"lab":       {"handshake"},
	"tracing":   {"handshake"},
	"hostinfo":  {"config"},
	"internal":  {"handshake"},
}

// proxyFloors are the packages inside proxy, from the top. Each imports only what is below it; of the lowest, message imports paths.
var proxyFloors = [][]string{
	{"proxy"},
	{"proxy/gateway"},
	{"proxy/sites"},
	{"proxy/upstream", "proxy/http3", "proxy/relay"},
	{"proxy/http1", "proxy/http2"},
	{"proxy/message", "proxy/conns", "proxy/deadline", "proxy/quota", "proxy/outbound", "proxy/park", "proxy/socket"},
	{"proxy/paths"},
}

func proxyFloor(dir string) int {
	return slices.IndexFunc(proxyFloors, func(floor []string) bool { return slices.Contains(floor, dir) })
}

// imports are the packages of the tree, and what each imports of ours, without its tests.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	err := filepath.WalkDir("..", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "testdata" || e.Name() != ".." && strings.HasPrefix(e.Name(), ".")):
			return fs.SkipDir
		case e.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		dir, _ := filepath.Rel("..", filepath.Dir(name))
		dir = filepath.ToSlash(dir)
		all[dir] = append(all[dir], "")
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}

		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range file.Imports {
			if imported, _ := strconv.Unquote(i.Path.Value); strings.HasPrefix(imported, "padlock/") {
				all[dir] = append(all[dir], strings.TrimPrefix(imported, "padlock/"))
			}
		}
		return nil
	})
	if err != nil || len(all) < 50 {
		t.Fatalf("%d packages, %v", len(all), err)
	}
	return all
}

func TestPackagesImportDownwardsOnly(t *testing.T) {
	for dir, imported := range imports(t) {
		from, _, _ := strings.Cut(dir, "/")
		for _, other := range imported {
			to, _, _ := strings.Cut(other, "/")
			switch {
			case other == "", to == "internal":
			case from == "internal" && dir != "internal/terminal":
				t.Errorf("%s imports %s: packages in internal/ import no others of ours", dir, other)
			case from == "proxy" && to == "proxy":
				if proxyFloor(dir) < 0 || proxyFloor(other) <= proxyFloor(dir) {
					t.Errorf("%s imports %s, which is not below it", dir, other)
				}
			case from == to || slices.Contains(mayImport[from], to):
			default:
				t.Errorf("%s imports %s, against docs/architecture.md", dir, other)
			}
		}
	}
}

var (
	folderRow = regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)/` \\|")
	goFile    = regexp.MustCompile("`([A-Za-z0-9_/]+\\.go)`")
	goTest    = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
)

// Each package has its row, and each folder, file and test that the page names is there.
func TestArchitectureNamesWhatIsThere(t *testing.T) {
	content, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	packages := imports(t)

	rows := map[string]bool{}
	for _, m := range folderRow.FindAllStringSubmatch(text, -1) {
		rows[m[1]] = true
		if packages[m[1]] == nil {
			t.Errorf("there is no package in %s/", m[1])
		}
	}
	for dir := range packages {
		if !rows[dir] {
			t.Errorf("%s/ has no row", dir)
		}
	}

	var files []string
	var code strings.Builder
	err = filepath.WalkDir("..", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") {
			return err
		}
		files = append(files, path.Join("/", filepath.ToSlash(strings.TrimPrefix(name, ".."))))
		if strings.HasSuffix(name, "_test.go") {
			source, err := os.ReadFile(name)
			code.Write(source)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range goFile.FindAllStringSubmatch(text, -1) {
		// NAME.go is whatever the reader adds.
		if path.Base(m[1]) != "NAME.go" && !slices.ContainsFunc(files, func(file string) bool { return strings.HasSuffix(file, "/"+m[1]) }) {
			t.Errorf("there is no file %s", m[1])
		}
	}
	for _, m := range goTest.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(code.String(), "\nfunc "+m[1]+"(") {
			t.Errorf("there is no test %s", m[1])
		}
	}
}
