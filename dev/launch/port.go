package launch

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Ports that apps are given: framework's defaults lie elsewhere, and so do ports of outgoing connections.
const (
	firstPort = 4000
	lastPort  = 4999
)

// FreePort is a port between 4000 and 4999 on which nobody listens, by IPv4 or by IPv6, and which is none of those in
// use otherwise.
func FreePort(used func(port int) bool) (int, error) {
	const ports = lastPort - firstPort + 1
	// A random start makes it unlikely that two commands that start at once choose the same port.
	offset := rand.N(ports)
	for i := range ports {
		port := firstPort + (offset+i)%ports
		if (used == nil || !used(port)) && free(port) {
			return port, nil
		}
	}
	return 0, errors.New("no port between 4000 and 4999 is free")
}

func free(port int) bool {
	// Each of the three can be in use while the others are free, and apps choose any of them.
	for _, host := range []string{"127.0.0.1", "::1", ""} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			l.Close()
			continue
		}
		// The machine may have no IPv6.
		if host != "::1" {
			return false
		}
	}
	return true
}

// A framework that does not take its port from PORT gets it by flags.
type framework struct {
	words []string // with which the command begins, after runners such as npx
	flags []string // {port} and {host} stand for what the app is given, {url} and {url_port} for where it is served
}

// frameworks are searched in their order; the first whose words a command begins with decides.
var frameworks = []framework{
	{words: []string{"vite", "preview"}, flags: []string{"--port", "{port}", "--strictPort", "--host", "{host}"}},
	{words: []string{"vite", "build"}},
	{words: []string{"vite"}, flags: []string{"--port", "{port}", "--strictPort", "--host", "{host}"}},
	{words: []string{"astro", "dev"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"astro", "preview"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"ng", "serve"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"next", "dev"}, flags: []string{"--port", "{port}", "--hostname", "{host}"}},
	{words: []string{"next", "start"}, flags: []string{"--port", "{port}", "--hostname", "{host}"}},
	{words: []string{"nuxt", "dev"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"nuxi", "dev"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"expo", "start"}, flags: []string{"--port", "{port}"}},
	{words: []string{"webpack", "serve"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"webpack-dev-server"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"react-router", "dev"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"rails", "server"}, flags: []string{"--port", "{port}", "--binding", "{host}"}},
	{words: []string{"rails", "s"}, flags: []string{"--port", "{port}", "--binding", "{host}"}},
	{words: []string{"manage.py", "runserver"}, flags: []string{"{host}:{port}"}},
	{words: []string{"django-admin", "runserver"}, flags: []string{"{host}:{port}"}},
	{words: []string{"flask", "run"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"flask", "--app", "*", "run"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"uvicorn"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"fastapi"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"gunicorn"}, flags: []string{"--bind", "{host}:{port}"}},
	{words: []string{"http.server"}, flags: []string{"{port}", "--bind", "{host}"}},
	{words: []string{"hugo", "server"}, flags: []string{"--port", "{port}", "--bind", "{host}", "--appendPort=false", "--baseURL", "{url}", "--liveReloadPort", "{url_port}"}},
	{words: []string{"hugo", "serve"}, flags: []string{"--port", "{port}", "--bind", "{host}", "--appendPort=false", "--baseURL", "{url}", "--liveReloadPort", "{url_port}"}},
	{words: []string{"jekyll", "serve"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"jekyll", "server"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"mkdocs", "serve"}, flags: []string{"--dev-addr", "{host}:{port}"}},
	{words: []string{"php", "-S"}},
	{words: []string{"artisan", "serve"}, flags: []string{"--port", "{port}", "--host", "{host}"}},
	{words: []string{"spring-boot:run"}, flags: []string{"-Dspring-boot.run.arguments=--server.port={port}"}},
	{words: []string{"bootRun"}, flags: []string{"--args=--server.port={port}"}},
}

// runners come in front of a framework's own words.
var runners = [][]string{
	{"npx"}, {"bunx"}, {"pnpm", "exec"}, {"pnpm", "dlx"}, {"pnpm"}, {"yarn", "exec"}, {"yarn"}, {"bun", "x"}, {"bun"}, {"npm", "exec", "--"},
	{"bundle", "exec"}, {"python3", "-m"}, {"python", "-m"}, {"python3"}, {"python"}, {"ruby"}, {"php"}, {"poetry", "run"}, {"uv", "run"},
	{"pipenv", "run"}, {"node"}, {"mvn"}, {"gradle"}, {"mvnw"}, {"gradlew"}, {"dotenv"}, {"env"},
}

// scripted are what runs a script of package.json, and what comes between it and the flags for the script's command.
var scripted = []struct{ words, separator []string }{
	{[]string{"npm", "run"}, []string{"--"}}, {[]string{"npm", "start"}, []string{"--"}},
	{[]string{"pnpm", "run"}, nil}, {[]string{"pnpm"}, nil}, {[]string{"yarn", "run"}, nil}, {[]string{"yarn"}, nil}, {[]string{"bun", "run"}, nil},
}

// shellMeans are characters by which a line means more to a shell than its words.
const shellMeans = "&|;><$`\"'\\()*?[]#~\n"

// WithPort is the command as it is run: {port}, {host}, {url} and {url_port} are replaced wherever they stand, and a
// framework that ignores PORT gets its flags, unless the command says the port itself. dir is where package.json is,
// for commands that run one of its scripts.
func WithPort(args []string, dir, host string, port int, address string) []string {
	// Flags can be added to a line that the shell runs word for word. In others they might reach another command.
	if len(args) == 3 && slices.Equal(args[:2], shell("")[:2]) && !strings.ContainsAny(args[2], shellMeans) {
		line := WithPort(strings.Fields(args[2]), dir, host, port, address)
		return append(slices.Clone(args[:2]), strings.Join(line, " "))
	}
	values := strings.NewReplacer("{port}", strconv.Itoa(port), "{host}", host, "{url}", address, "{url_port}", portOf(address))
	replaced := make([]string, len(args))
	said := false
	for i, arg := range args {
		replaced[i] = values.Replace(arg)
		said = said || replaced[i] != arg
	}

	// A command that names the port itself needs no flags.
	if said {
		return replaced
	}

	words, between := args, []string(nil)
	if script, separator, ok := ofScript(args, dir); ok {
		words, between = script, separator
	}
	f := frameworkOf(words)
	if f == nil || len(f.flags) == 0 || saysPort(words, f) || saysPort(args, f) {
		return replaced
	}
	// npm passes flags on to the script only behind two dashes.
	if between != nil && !slices.Contains(args, "--") {
		replaced = append(replaced, between...)
	}

	for _, flag := range f.flags {
		replaced = append(replaced, values.Replace(flag))
	}

	return replaced
}

// portOf is the port in a URL.
func portOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Port() != "" {
		return u.Port()
	}
	return "443"
}

// ofScript is the command of the script of package.json that args run, if it is one that flags can be added to.
func ofScript(args []string, dir string) (words, separator []string, ok bool) {
	for _, s := range scripted {
		if len(args) < len(s.words) || !slices.Equal(args[:len(s.words)], s.words) {
			continue
		}

		name := "start"
		if s.words[len(s.words)-1] != "start" {
			if len(args) == len(s.words) {
				continue
			}
			name = args[len(s.words)]
		}

		script := scripts(dir)[name]
		if script == "" || strings.ContainsAny(script, shellMeans) {
			return nil, nil, false
		}

		separator = s.separator
		if separator == nil {
			separator = []string{}
		}

		return strings.Fields(script), separator, true
	}
	return nil, nil, false
}

// scripts are those of package.json.
func scripts(dir string) map[string]string {
	text, err := readSmall(filepath.Join(dir, "package.json"))
	if err != nil {
		return nil
	}
	var manifest struct {
		Scripts map[string]string `json:"scripts"`
	}
	_ = json.Unmarshal(text, &manifest) // without scripts, there is none to run
	return manifest.Scripts
}

func frameworkOf(args []string) *framework {
	words := bare(args)
	for i := range frameworks {
		if begins(words, frameworks[i].words) {
			return &frameworks[i]
		}
	}

	for _, r := range runners {
		if len(args) > len(r) && slices.Equal(bare(args[:len(r)]), r) {
			if f := frameworkOf(args[len(r):]); f != nil {
				return f
			}
		}
	}

	return nil
}

// bare takes the directory off what is run.
func bare(args []string) []string {
	words := slices.Clone(args)
	if len(words) > 0 {
		words[0] = filepath.Base(words[0])
	}
	return words
}

func begins(words, with []string) bool {
	if len(words) < len(with) {
		return false
	}
	for i, word := range with {
		if word != "*" && word != words[i] {
			return false
		}
	}
	return true
}

// saysPort reports whether the command's own arguments choose the port.
func saysPort(args []string, f *framework) bool {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if name == "-p" || name == "--port" || name == "-b" || name == "--bind" || slices.Contains(f.flags, name) && strings.HasPrefix(name, "-") {
			return true
		}
	}
	last := args[len(args)-1]
	if _, port, found := strings.Cut(last, ":"); found {
		last = port
	}
	_, err := strconv.Atoi(last)
	return err == nil
}
