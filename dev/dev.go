// Package dev joins the apps that are developed on a machine into one padlock: a proxy in the background, which ends
// with the last app, and the commands that start apps and register them there.
//
//	hub, err := dev.Open(dir, log)                 // in the proxy
//	client, err := dev.Join(ctx, dir, startProxy)  // in a command
//	err = client.Register(ctx, app)
//
// An app is registered for as long as its connection lasts, so a command that is killed leaves nothing behind. Both
// sides speak JSON, a line for each message, over a Unix socket that only its user can open.
package dev

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"padlock/config"
	"padlock/internal/invoker"
)

// App is what a command registers.
type App struct {
	Name       string   `json:"name"`  // shop, or api.shop: what comes before .localhost
	Hosts      []string `json:"hosts"` // names that it is served under; the first is the one that is shown
	Dir        string   `json:"dir"`
	Command    string   `json:"command"`
	PID        int      `json:"pid"`           // of padlock dev
	Log        string   `json:"log,omitempty"` // file with what it prints; "": none
	Target     string   `json:"target"`        // host:port where it listens; "": it does not listen
	Waiting    string   `json:"waiting"`       // where it is expected to listen
	HostHeader string   `json:"host_header,omitempty"`
	Inspect    string   `json:"inspect,omitempty"` // off: its requests are not remembered; redact: without secrets
	URL        string   `json:"url,omitempty"`     // where it is served; the proxy fills it in
}

// What App.Inspect may be, beside "": requests are remembered.
const (
	InspectOff      = "off"
	InspectRedacted = "redact"
)

// Taken is the error of a name that another app has.
type Taken struct {
	By   App
	Host string // that both want
}

func (t *Taken) Error() string {
	return fmt.Sprintf("%s is taken by process %d in %s (%s)", t.Host, t.By.PID, t.By.Dir, t.By.Command)
}

// request is a message of a command. One of its fields is set.
type request struct {
	Register *App    `json:"register,omitempty"`
	Target   *string `json:"target,omitempty"` // where the registered app listens now
	Group    *int    `json:"group,omitempty"`  // the app's process group; 0: it has ended
	List     bool    `json:"list,omitempty"`
	Stop     string  `json:"stop,omitempty"` // the name of an app whose command is to end
}

// reply is a message of the proxy.
type reply struct {
	Error   string `json:"error,omitempty"`
	Taken   *App   `json:"taken,omitempty"`
	Host    string `json:"host,omitempty"`    // that taken has
	Unknown bool   `json:"unknown,omitempty"` // no app has this name
	Apps    []App  `json:"apps,omitempty"`    // all that are registered, the new one first after a registration
	Stop    bool   `json:"stop,omitempty"`    // the command is asked to end
	Ports   *Ports `json:"ports,omitempty"`   // comes first
}

// Ports are where the proxy listens.
type Ports struct {
	HTTPS   int    `json:"https"`
	HTTP    int    `json:"http"` // 0: nowhere
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Storage string `json:"storage,omitempty"` // padlock's own directory, with the local CA
}

// URL is the address of a host.
func (p Ports) URL(host string) string {
	if p.HTTPS == 443 {
		return "https://" + host
	}
	return fmt.Sprintf("https://%s:%d", host, p.HTTPS)
}

// Directory is where the sockets of a user's proxy are: in XDG_RUNTIME_DIR, which nobody else can enter and which is
// empty after a start of the machine, else in state, padlock's own directory. After su or sudo -E, the variable may lead
// to the directory of another user, who could put a proxy of their own in the place of this one's.
func Directory(state string) string {
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) && owned(base) {
		return filepath.Join(base, ownName)
	}
	return StateDirectory(state)
}

// StateDirectory is where the logs of the proxy and of apps are, in state. With sudo, state is that of the user who ran it,
// and root, whose proxy is another, has a directory of its own.
func StateDirectory(state string) string {
	if home := invoker.RootsHome(); home != "" && invoker.Find() != nil {
		state = filepath.Join(home, ".local", "share", "padlock")
	}
	return filepath.Join(state, ownName)
}

// ownName is a directory that nobody else has: below the root directory, dev is that of the system.
const ownName = "padlock-dev"

// Names of what a directory holds.
const (
	socketName = "dev.sock"   // where commands register
	pagesName  = "pages.sock" // where the proxy itself answers for apps that do not listen
	lockName   = "proxy.lock" // held by the proxy while it runs
	startName  = "start.lock" // held by the command that starts the proxy
)

// AdminSocket is where the proxy's admin endpoint answers: the storage directory's is that of other padlocks.
func AdminSocket(dir string) string { return filepath.Join(dir, "admin.sock") }

// maxSocket is the longest path of a Unix socket, in bytes (unix(7): 108 with the zero at its end; 104 elsewhere).
const maxSocket = 103

// prepare makes the directory, which nobody else may enter.
func prepare(dir string) error {
	if path := filepath.Join(dir, pagesName); len(path) > maxSocket {
		return fmt.Errorf("%s: the path of a socket has %d bytes at most: set XDG_RUNTIME_DIR to a shorter directory of your own", path, maxSocket)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return private(dir)
}

// listed are the names at which the list of apps is shown.
var listed = []string{"localhost", "*.localhost"}

// canonical are hosts in their canonical form, or what is wrong with one.
func canonical(hosts []string) ([]string, error) {
	if len(hosts) == 0 {
		return nil, errors.New("an app needs a name")
	}
	names := make([]string, len(hosts))
	for i, host := range hosts {
		name, ok := config.CanonicalPattern(host)
		switch {
		case !ok:
			return nil, fmt.Errorf("%q is not a host name", host)
		case !config.IsLocal(name):
			return nil, fmt.Errorf("%s is not a local name: choose one below %s", name, strings.Join(config.LocalDomains, ", "))
		case slices.Contains(listed, name):
			return nil, fmt.Errorf("%s is where the list of apps is", name)
		}
		names[i] = name
	}

	return names, nil
}

// site is what the proxy serves for an app: the app, or the page that waits for it.
func (a *App) site(pages string) config.Site {
	target := config.Target{Scheme: "http", Network: "unix", Address: pages}
	host := ""
	if a.Target != "" {
		target, host = config.Target{Scheme: "http", Network: "tcp", Address: a.Target}, a.HostHeader
	}
	inspect := &config.Inspect{Off: a.Inspect == InspectOff, Redact: a.Inspect == InspectRedacted}
	return config.Site{Hosts: a.Hosts, Inspect: inspect, Routes: []config.Route{{Upstream: config.Upstream{To: []config.Backend{{Target: target}}}, Host: host}}}
}

// noteRunning writes this process into the file that it has locked, for those who get no answer from it.
func noteRunning(lock *os.File) {
	if lock.Truncate(0) == nil {
		// If this fails, as on a full disk, only a process number is missing.
		_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
}

// runningIn is the process that noteRunning has written; 0: nobody knows.
func runningIn(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, lockName))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(text))
	return pid
}

// Check finds what is wrong with an app, before it is registered.
func (a *App) Check() error {
	_, err := canonical(a.Hosts)
	return errors.Join(err, checkTarget(a.Target), checkHostHeader(a.HostHeader))
}

// checkHostHeader accepts what a route's host may be. Nobody would hear of a mistake later, when the app listens.
func checkHostHeader(host string) error {
	app := App{Hosts: []string{"localhost"}, Target: "127.0.0.1:1", HostHeader: host}
	cfg := config.Default()
	cfg.Sites = []config.Site{app.site("")}
	if cfg.Validate() != nil {
		return fmt.Errorf("the Host header is keep, upstream or a host name, and not %q", host)
	}
	return nil
}

// checkTarget accepts an address and a port.
func checkTarget(target string) error {
	host, port, err := net.SplitHostPort(target)
	if ip := net.ParseIP(host); target != "" && (err != nil || ip == nil || port == "") {
		return fmt.Errorf("%q is not an address such as 127.0.0.1:4000", target)
	}
	return nil
}
