package launch

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAProjectIsCalledAsItsManifestSays(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"package.json", `{"name": "@acme/Web_Shop"}`, "web-shop"},
		{"package.json", `{"private": true}`, "folder"},
		{"package.json", `{broken`, "folder"},
		{"go.mod", "module example.com/acme/shop/v2\n\ngo 1.26\n", "shop"},
		{"go.mod", "module shop\n", "shop"},
		{"Cargo.toml", "[workspace]\nname = \"no\"\n[package]\nversion = \"1\"\nname = \"shop_rs\"\n", "shop-rs"},
		{"Cargo.toml", "[package]\nversion = \"1\"\n[dependencies]\nname = \"no\"\n", "folder"},
		{"pyproject.toml", "[project]\nname = 'shop.py'\n", "shop-py"},
		{"pyproject.toml", "[tool.black]\nname = 'no'\n[tool.poetry]\nname = \"shop\"\n", "shop"},
		{"package.json", "\ufeff" + `{"name": "shop"}`, "shop"},
		{"composer.json", `{"name": "acme/shop"}`, "shop"},
		{"mix.exs", "def project do\n  [\n    app: :shop_ex,\n", "shop-ex"},
		{"package.json", `{"name": "` + strings.Repeat("x", 80) + `"}`, strings.Repeat("x", 63)},
		{"package.json", `{"name": "日本"}`, "folder"},
	} {
		dir := filepath.Join(t.TempDir(), "Folder")
		write(t, dir, map[string]string{c.file: c.text})
		if got := Name(dir); got != c.want {
			t.Errorf("%s %s: %q, not %q", c.file, c.text, got, c.want)
		}
	}
}

func TestAManifestThatIsNoFileNamesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.MkdirAll(filepath.Join(dir, "package.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Name(dir); got != "shop" {
		t.Errorf("%q", got)
	}
}

func TestWorkTreesHaveTheirBranchInFront(t *testing.T) {
	git := func(dir string, args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com", "-C", dir}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	base := t.TempDir()
	main := filepath.Join(base, "shop")
	write(t, main, map[string]string{"sub/x": ""})
	git(main, "init", "-q")
	git(main, "add", ".")
	git(main, "commit", "-q", "-m", "x")
	git(main, "worktree", "add", "-q", "-b", "feature/Fix_UI", filepath.Join(base, "elsewhere"))
	git(main, "worktree", "add", "-q", "--detach", filepath.Join(base, "loose"))
	for dir, want := range map[string]string{
		main: "shop", filepath.Join(main, "sub"): "shop",
		filepath.Join(base, "elsewhere"): "feature-fix-ui.shop", filepath.Join(base, "elsewhere", "sub"): "feature-fix-ui.shop",
		filepath.Join(base, "loose"): "loose.shop",
	} {
		if got := Name(dir); got != want {
			t.Errorf("%s: %q, not %q", dir, got, want)
		}
	}
}

func TestEveryNameIsOneThatCanBeServed(t *testing.T) {
	for _, text := range []string{"a", "Shop 2", "--x--", "a.b", strings.Repeat("a", 62) + "--b", "Ünïcode", "x_y"} {
		if label := Label(text); !ValidName(label) {
			t.Errorf("%q becomes %q", text, label)
		}
	}
	for _, name := range []string{"", ".", "a..b", "A", "a_b", "-a", "a/b", "../a", "a.", strings.Repeat("a", 64)} {
		if ValidName(name) {
			t.Errorf("%q is taken for a name", name)
		}
	}
}
