package launch

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"
)

func TestAFolderIsAnApp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dist")
	write(t, dir, map[string]string{"index.html": "home", "a.js": "let a = 1", ".env": "secret", "../outside": "secret"})
	for _, spa := range []bool{false, true} {
		f, err := ServeFolder(dir, spa)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		route := 404
		if spa {
			route = 200
		}
		for path, want := range map[string]int{"/": 200, "/a.js": 200, "/.env": 404, "/missing.js": 404, "/orders/7": route} {
			response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", f.Port(), path))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != want || string(body) == "secret" {
				t.Errorf("spa %v, %s: %s %q", spa, path, response.Status, body)
			}
		}
	}
}
