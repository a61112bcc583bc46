package launch

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheAppsOfADirectory(t *testing.T) {
	for what, c := range map[string]struct {
		files map[string]string
		want  string // name dir command, of each
		wrong string
	}{
		"nothing": {files: map[string]string{"x": ""}},
		"a file": {
			files: map[string]string{"padlock.dev.yaml": "apps:\n  web: {command: npm run dev, directory: web, name: shop, wildcard: true}\n  api: {command: go run .}\n", "Procfile": "web: no\n", "web/index.html": ""},
			want:  "api . sh -c go run .\nshop web sh -c npm run dev\n",
		},
		"an unknown key":        {files: map[string]string{"padlock.dev.yaml": "apps:\n  web: {comand: x}\n"}, wrong: "line 2: comand is not a key here"},
		"no command":            {files: map[string]string{"padlock.dev.yaml": "apps:\n  web: {directory: x}\n"}, wrong: "apps.web: command is missing"},
		"no directory":          {files: map[string]string{"padlock.dev.yaml": "apps:\n  web: {command: x, directory: none}\n"}, wrong: "none is not a directory"},
		"a port that is none":   {files: map[string]string{"padlock.dev.yaml": "apps:\n  web: {command: x, port: 70000}\n"}, wrong: "70000 is not a port"},
		"one name for two":      {files: map[string]string{"padlock.dev.yaml": "apps:\n  api: {command: x, name: web}\n  web: {command: y}\n"}, wrong: "two apps are called web: x, and y"},
		"one port for two":      {files: map[string]string{"padlock.dev.yaml": "apps:\n  api: {command: x, port: 4000}\n  web: {command: y, port: 4000}\n"}, wrong: "two apps have the port 4000: api, and web"},
		"a list of apps":        {files: map[string]string{"padlock.dev.yaml": "apps: [x]\n"}, wrong: "line 1: keys with values are expected, such as command: npm run dev"},
		"a domain and no list":  {files: map[string]string{"padlock.dev.yaml": "apps:\n  web: {command: x, domains: shop.test}\n"}, wrong: "line 2: a list such as [shop.test] is expected"},
		"two lines for one":     {files: map[string]string{"Procfile": "web: x\nweb: y\n"}, wrong: "two apps are called"},
		"a name that is none":   {files: map[string]string{"padlock.dev.yaml": "apps:\n  Web_1: {command: x}\n"}, wrong: `"Web_1" is not a name`},
		"an empty file":         {files: map[string]string{"padlock.dev.yaml": ""}, wrong: "no apps"},
		"a Procfile":            {files: map[string]string{"Procfile": "# comment\nweb: npm start\nassets_x: make -w\n", "package.json": `{"name":"shop"}`}, want: "shop . sh -c npm start\nassets-x.shop . sh -c make -w\n"},
		"a line that is none":   {files: map[string]string{"Procfile": "web: x\nwhat is this\n"}, wrong: "line 2"},
		"a script":              {files: map[string]string{"package.json": `{"scripts":{"dev":"x"}}`}, want: " . npm run dev\n"},
		"a script, by pnpm":     {files: map[string]string{"package.json": `{"scripts":{"dev":"x"}}`, "pnpm-lock.yaml": ""}, want: " . pnpm run dev\n"},
		"a byte order mark":     {files: map[string]string{"package.json": "\ufeff" + `{"scripts":{"dev":"x"}}`}, want: " . npm run dev\n"},
		"no JSON":               {files: map[string]string{"package.json": `{"scripts":{"dev":"x"},}`}, wrong: "package.json: it is not valid JSON"},
		"a script that is none": {files: map[string]string{"package.json": `{"scripts":{"build":"x"}}`}},
	} {
		dir := t.TempDir()
		write(t, dir, c.files)
		apps, err := Project(dir)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		got := ""
		for _, a := range apps {
			from, _ := filepath.Rel(dir, a.Dir)
			got += fmt.Sprintln(a.Name, from, strings.Join(a.Args, " "))
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n%s", what, err, got)
		}
	}
}

func TestALaterVariableCounts(t *testing.T) {
	env := Environment([]string{"A=1", "PORT=80", "B=2"}, "PORT=4000", "C=3", "C=4")
	if got := strings.Join(env, " "); got != "A=1 PORT=4000 B=2 C=4" {
		t.Error(got)
	}
}
