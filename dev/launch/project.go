package launch

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"padlock/internal/lazy"
)

// App is an app as somebody has described it.
type App struct {
	Name       string // "": by Name
	Dir        string
	Args       []string
	Shown      string // the command as it was written; "": the words of Args
	Domains    []string
	Wildcard   bool
	Port       int    // 0: a free one
	HostHeader string // "": keep
	Restart    bool
}

// Command is the app's command for people.
func (a *App) Command() string {
	if a.Shown != "" {
		return a.Shown
	}
	return strings.Join(a.Args, " ")
}

// OnPort is the port on which the app listens already; false: there is a command or a folder.
func (a *App) OnPort() (port int, ok bool) {
	port, err := strconv.Atoi(a.Args[0])
	return port, err == nil && len(a.Args) == 1
}

// IsFolder reports whether the app is a folder of files.
func (a *App) IsFolder() bool {
	info, err := os.Stat(a.Args[0])
	return err == nil && info.IsDir() && len(a.Args) == 1
}

// Served reports whether no command is to be run.
func (a *App) Served() bool {
	_, listens := a.OnPort()
	return listens || a.IsFolder()
}

// FileName is the file that describes the apps of a directory.
const FileName = "padlock.dev.yaml"

// Project finds the apps of a directory: in padlock.dev.yaml, else in a Procfile, else the script dev of package.json.
// There may be none.
func Project(dir string) ([]App, error) {
	for _, source := range []struct {
		file string
		read func(dir string, text []byte) ([]App, error)
	}{{FileName, readFile}, {"Procfile", readProcfile}, {"package.json", readScript}} {
		text, err := readSmall(filepath.Join(dir, source.file))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source.file, err)
		}

		apps, err := source.read(dir, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source.file, err)
		}
		if err := distinct(apps); err != nil {
			return nil, fmt.Errorf("%s: %w", source.file, err)
		}
		if len(apps) > 0 {
			return apps, nil
		}
	}
	return nil, nil
}

// distinct refuses a name or a port that two apps have.
func distinct(apps []App) error {
	for i := range apps {
		for j := range i {
			if apps[i].Name == apps[j].Name {
				return fmt.Errorf("two apps are called %s: %s, and %s", apps[i].Name, apps[j].Command(), apps[i].Command())
			}
			// Each of them would be served by whichever gets the port.
			if port := apps[i].Port; port != 0 && port == apps[j].Port {
				return fmt.Errorf("two apps have the port %d: %s, and %s", port, apps[j].Name, apps[i].Name)
			}
		}
	}
	return nil
}

// fileApp is an app in padlock.dev.yaml.
type fileApp struct {
	Command    string   `yaml:"command"`
	Directory  string   `yaml:"directory"`
	Name       string   `yaml:"name"`
	Domains    []string `yaml:"domains"`
	Wildcard   bool     `yaml:"wildcard"`
	Port       int      `yaml:"port"`
	HostHeader string   `yaml:"host_header"`
	Restart    bool     `yaml:"restart"`
}

func readFile(dir string, text []byte) ([]App, error) {
	var file struct {
		Apps map[string]fileApp `yaml:"apps"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	// A misspelt key would do nothing otherwise.
	decoder.KnownFields(true)
	// The message for an empty file follows.
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, readable(err)
	}
	if len(file.Apps) == 0 {
		return nil, errors.New("no apps: write apps:, and below it a name with its command: for each")
	}

	var apps []App
	for _, key := range slices.Sorted(maps.Keys(file.Apps)) {
		app, err := file.Apps[key].app(key, dir)
		if err != nil {
			return nil, fmt.Errorf("apps.%s: %w", key, err)
		}
		apps = append(apps, app)
	}

	return apps, nil
}

// yamlWords are what the YAML library says about Go's types, and what that means in the file.
var yamlWords = []struct {
	said  func() *regexp.Regexp
	means string
}{
	{lazy.Regexp(`field (.+) not found in type \S+`), "$1 is not a key here"},
	{lazy.Regexp(`cannot unmarshal !!\w+ (?:.+ )?into \[\]string`), "a list such as [shop.test] is expected"},
	{lazy.Regexp(`cannot unmarshal !!\w+ (?:.+ )?into bool`), "true or false is expected"},
	{lazy.Regexp(`cannot unmarshal !!\w+ (?:.+ )?into int`), "a number is expected"},
	{lazy.Regexp(`cannot unmarshal !!\w+ (?:.+ )?into string`), "text is expected"},
	{lazy.Regexp(`cannot unmarshal !!\w+ (?:.+ )?into \S+`), "keys with values are expected, such as command: npm run dev"},
}

// readable is an error of the YAML library without the types of this program.
func readable(err error) error {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return err
	}
	all := make([]string, len(wrong.Errors))
	for i, text := range wrong.Errors {
		for _, w := range yamlWords {
			text = w.said().ReplaceAllString(text, w.means)
		}
		all[i] = text
	}
	return errors.New(strings.Join(all, "; "))
}

// app is what the file says of the app with a key, in the directory of the file.
func (a fileApp) app(key, dir string) (App, error) {
	name := cmp.Or(a.Name, key)
	directory := a.Directory
	if !filepath.IsAbs(directory) {
		directory = filepath.Join(dir, directory)
	}

	info, err := os.Stat(directory)
	switch {
	case strings.TrimSpace(a.Command) == "":
		return App{}, errors.New("command is missing")
	case !ValidName(name):
		return App{}, fmt.Errorf("%q is not a name of letters, digits and hyphens", name)
	case a.Port < 0 || a.Port > 65535:
		return App{}, fmt.Errorf("%d is not a port", a.Port)
	case err != nil || !info.IsDir():
		return App{}, fmt.Errorf("%s is not a directory", directory)
	}

	return App{
		Name: name, Dir: directory, Args: shell(a.Command), Shown: a.Command,
		Domains: a.Domains, Wildcard: a.Wildcard, Port: a.Port, HostHeader: a.HostHeader, Restart: a.Restart,
	}, nil
}

// maxName is the length of a name that has room for .localhost behind it (RFC 1035 section 2.3.4).
const maxName = 253 - len(".localhost")

// ValidName reports whether a name can stand before .localhost: labels, several with dots between them.
func ValidName(name string) bool {
	if len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label != Label(label) {
			return false
		}
	}
	return true
}

var procfileLine = lazy.Regexp(`^([A-Za-z0-9_-]+):\s*(.+)$`)

// readProcfile reads a process on each line. The one called web has the project's name, and others stand before it:
// api.shop.
func readProcfile(dir string, text []byte) ([]App, error) {
	project := Name(dir)
	var apps []App
	lines := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := procfileLine().FindStringSubmatch(line)
		if parts == nil {
			return nil, fmt.Errorf("line %d: %q is not a process such as web: npm start", number, line)
		}

		name := project
		if parts[1] != "web" {
			name = Label(parts[1]) + "." + project
		}

		apps = append(apps, App{Name: name, Dir: dir, Args: shell(parts[2]), Shown: parts[2]})
	}

	return apps, lines.Err()
}

// readScript runs the script dev with the package manager whose lock file is there.
func readScript(dir string, text []byte) ([]App, error) {
	var manifest any
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, fmt.Errorf("it is not valid JSON: %w", err)
	}
	if scripts(dir)["dev"] == "" {
		return nil, nil
	}
	manager := "npm"
	for _, m := range []struct{ lock, name string }{{"pnpm-lock.yaml", "pnpm"}, {"yarn.lock", "yarn"}, {"bun.lock", "bun"}, {"bun.lockb", "bun"}} {
		if _, err := os.Stat(filepath.Join(dir, m.lock)); err == nil {
			manager = m.name
			break
		}
	}
	return []App{{Dir: dir, Args: []string{manager, "run", "dev"}}}, nil
}

// shell runs a line as a shell reads it. exec leaves the shell out of the way of signals where it can.
func shell(line string) []string {
	if runtime.GOOS == "windows" {
		return []string{"cmd", "/c", line}
	}
	return []string{"sh", "-c", line}
}

// Environment is an environment with other values. Of a variable that is given twice, the later value counts.
func Environment(env []string, more ...string) []string {
	values := map[string]int{}
	var all []string
	for _, pair := range slices.Concat(env, more) {
		name, _, _ := strings.Cut(pair, "=")
		if at, known := values[name]; known {
			all[at] = pair
			continue
		}
		values[name] = len(all)
		all = append(all, pair)
	}
	return all
}
