// Package launch starts an app that is being developed: it finds the app's name, gives it a port, follows where it
// listens, and passes on its output, its signals and its end.
//
//	name := launch.Name(dir)                          // shop, from package.json
//	p, err := launch.Start(launch.Command{…})         // with PORT in its environment
//	address, ok := p.Listening()                      // wherever it listens
//	err = p.Wait()
package launch

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"padlock/internal/lazy"
)

// maxManifest bounds the files that a name is read from, in bytes.
const maxManifest = 1 << 20

// manifests are the files that name a project, in the order in which they are asked.
var manifests = []struct {
	file string
	name func(text []byte) string
}{
	{"package.json", jsonName},
	{"composer.json", jsonName},
	{"go.mod", match(`(?m)^module\s+"?([^\s"]+)`)},
	{"Cargo.toml", match(`(?ms)^\[package\]\s*$[^\[]*?^name\s*=\s*["']([^"'\n]+)`)},
	{"pyproject.toml", match(`(?ms)^\[project\]\s*$[^\[]*?^name\s*=\s*["']([^"'\n]+)`)},
	{"pyproject.toml", match(`(?ms)^\[tool\.poetry\]\s*$[^\[]*?^name\s*=\s*["']([^"'\n]+)`)},
	{"mix.exs", match(`(?m)\bapp:\s*:(\w+)`)},
}

// Name is a DNS label for the project in a directory: what its manifest says; else the name of the Git work tree that
// the directory is the root of or in; else the directory's own. In a linked work tree of Git the branch comes in front:
// fix-ui.shop.
func Name(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "app"
	}
	tree := workTree(dir)
	name := manifestName(dir)
	if name == "" && tree.root != "" {
		if name = manifestName(tree.root); name == "" {
			name = Label(filepath.Base(tree.main))
		}
	}

	if name == "" {
		name = Label(filepath.Base(dir))
	}
	if name == "" {
		name = "app"
	}
	if branch := Label(tree.branch); tree.linked && branch != "" {
		name = branch + "." + name
	}

	return name
}

func manifestName(dir string) string {
	for _, m := range manifests {
		text, err := readSmall(filepath.Join(dir, m.file))
		if err != nil {
			continue
		}
		if name := Label(lastPart(m.name(text))); name != "" {
			return name
		}
	}
	return ""
}

// readSmall reads a regular file of a bounded size.
func readSmall(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	// Reading a FIFO would block, and reading some devices would never end.
	if !info.Mode().IsRegular() || info.Size() > maxManifest {
		return nil, os.ErrInvalid
	}
	text, err := os.ReadFile(name)
	// Editors of Windows begin a file with a byte order mark, which npm and others pass over.
	return bytes.TrimPrefix(text, []byte("\ufeff")), err
}

// lastPart is shop of @acme/shop and of example.com/acme/shop/v2.
func lastPart(name string) string {
	parts := strings.Split(strings.TrimRight(name, "/"), "/")
	last := parts[len(parts)-1]
	// Go's modules end with their major version from v2 on.
	if len(parts) > 1 && version().MatchString(last) {
		last = parts[len(parts)-2]
	}
	return last
}

var version = lazy.Regexp(`^v\d+$`)

func jsonName(text []byte) string {
	var manifest struct {
		Name string `json:"name"`
	}
	// Without a name in it, the next file is asked.
	_ = json.Unmarshal(text, &manifest)
	return manifest.Name
}

func match(pattern string) func(text []byte) string {
	expression := lazy.Regexp(pattern)
	return func(text []byte) string {
		if found := expression().FindSubmatch(text); found != nil {
			return string(found[1])
		}
		return ""
	}
}

// maxLabel is the length of a DNS label (RFC 1035 section 2.3.4).
const maxLabel = 63

// Label makes a DNS label of any text: lower case letters, digits and hyphens. It is "" where nothing is left.
func Label(text string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	// Cutting may leave a hyphen at the end, where a label must not have one (RFC 1035 section 2.3.1).
	label := b.String()
	return strings.Trim(label[:min(len(label), maxLabel)], "-")
}

// tree is a work tree of Git.
type tree struct {
	root   string // of this work tree; "": there is none
	main   string // of the main work tree
	linked bool   // made by git worktree add
	branch string
}

// workTree finds the work tree that a directory is in, by its files: Git need not be installed.
func workTree(dir string) tree {
	for at := dir; ; at = filepath.Dir(at) {
		git := filepath.Join(at, ".git")
		info, err := os.Stat(git)
		switch {
		case err == nil && info.IsDir():
			return tree{root: at, main: at}
		case err == nil:
			return linkedTree(at, git)
		case at == filepath.Dir(at):
			return tree{}
		}
	}
}

// linkedTree reads what git worktree add leaves: .git is a file that names a directory of the main work tree's .git. A
// submodule looks alike.
func linkedTree(root, file string) tree {
	t := tree{root: root, main: root}
	text, err := readSmall(file)
	if err != nil {
		return t
	}
	git, named := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir:")
	git = strings.TrimSpace(git)
	// Submodules have a relative path here, and so have work trees made with --relative-paths.
	if !filepath.IsAbs(git) {
		git = filepath.Join(root, git)
	}
	container := filepath.Dir(git)
	if !named || filepath.Base(container) != "worktrees" {
		return t
	}
	t.linked, t.main = true, filepath.Dir(filepath.Dir(container))
	if head, err := readSmall(filepath.Join(git, "HEAD")); err == nil {
		t.branch, _ = strings.CutPrefix(strings.TrimSpace(string(head)), "ref: refs/heads/")
	}
	if strings.HasPrefix(t.branch, "ref:") || commit().MatchString(t.branch) {
		// No branch is checked out, as during a rebase: the directory tells one worktree from another.
		t.branch = filepath.Base(root)
	}

	return t
}

var commit = lazy.Regexp(`^[0-9a-f]{40,64}$`)
