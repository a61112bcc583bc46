package dev

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"padlock/config"
	"padlock/dev/launch"
	"padlock/discovery"
)

// Hub is the proxy's side: it knows the apps that are registered. It is safe for use from many goroutines.
type Hub struct {
	dir  string
	log  *slog.Logger
	lock *os.File

	changed chan struct{} // has room for one: apps may be others

	mu       sync.Mutex
	apps     []*command // those that have an app, in the order in which they came
	ports    Ports
	listener net.Listener
	conns    map[net.Conn]struct{}
	version  int               // of apps
	served   int               // the version that the proxy serves
	serves   chan struct{}     // closed, and made anew, when served changes
	problems map[string]string // of apps in the version that is served, by name
	emptied  time.Time         // when the last app went, or the proxy began; zero: there are apps
	closed   bool
	serving  sync.WaitGroup
}

// lockWait is how long a proxy waits for one that is ending.
const lockWait = 15 * time.Second

// ErrRunning is the error of a proxy where another runs.
var ErrRunning = errors.New("padlock dev's proxy runs already")

// Open makes a hub. It is the only one in its directory until Close, by a lock that the kernel takes back from a
// process that is killed.
func Open(ctx context.Context, dir string, log *slog.Logger) (*Hub, error) {
	if err := prepare(dir); err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lock, err := lockFile(ctx, filepath.Join(dir, lockName))
	if errors.Is(err, context.DeadlineExceeded) {
		err = ErrRunning
	}
	if err != nil {
		return nil, err
	}

	noteRunning(lock)
	return &Hub{
		dir: dir, log: log, lock: lock, changed: make(chan struct{}, 1), serves: make(chan struct{}),
		conns: map[net.Conn]struct{}{}, emptied: time.Now(),
	}, nil
}

// Listen answers commands from now on: the proxy listens on these ports.
func (h *Hub) Listen(ports Ports) error {
	path := filepath.Join(h.dir, socketName)
	// The lock is held, so a socket that is there was left by a hub that was killed.
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}

	h.mu.Lock()
	h.ports, h.listener = ports, l
	h.mu.Unlock()
	h.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			h.serving.Go(func() { h.serve(conn) })
		}
	})
	return nil
}

// Close forgets all apps, and lets another proxy begin.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	if h.listener != nil {
		// Closing the listener also removes the socket's file.
		h.listener.Close()
	}
	for conn := range h.conns {
		conn.Close()
	}
	h.mu.Unlock()
	h.serving.Wait()
	// Released last: another proxy begins only when this one has let go of everything.
	h.lock.Close()
}

// Idle waits until there has been no app for a time, or no command reaches this hub any more. It returns early when ctx
// ends.
func (h *Hub) Idle(ctx context.Context, rest time.Duration) {
	ticker := time.NewTicker(min(rest, time.Second))
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}

		h.mu.Lock()
		// Decided with the lock held, so that no command registers between the decision and the end.
		idle := !h.emptied.IsZero() && time.Since(h.emptied) >= rest
		if idle = idle || h.unreachable(); idle {
			// Whoever connects from now on starts another hub.
			h.closed = true
		}

		h.mu.Unlock()
		if idle {
			return
		}
	}
}

// unreachable reports whether the socket's file has been removed, as systemd-logind does with XDG_RUNTIME_DIR after a
// user's last session. The commands that are connected then join a new proxy in its place. It is called with mu locked.
func (h *Hub) unreachable() bool {
	if h.listener == nil {
		return false
	}
	_, err := os.Lstat(filepath.Join(h.dir, socketName))
	return errors.Is(err, fs.ErrNotExist)
}

// Follow calls use with the names of all apps, wildcards aside, at once and whenever the proxy serves a change, until
// ctx ends.
func (h *Hub) Follow(ctx context.Context, use func(names []string)) {
	for {
		h.mu.Lock()
		var names []string
		for _, c := range h.apps {
			names = append(names, slices.DeleteFunc(slices.Clone(c.app.Hosts), func(host string) bool { return host[0] == '*' })...)
		}
		next := h.serves
		h.mu.Unlock()
		use(names)

		select {
		case <-ctx.Done():
			return
		case <-next:
		}
	}
}

// String implements discovery.Source.
func (h *Hub) String() string { return "padlock dev" }

// List is the site of the proxy's own: the list of apps at localhost.
func (h *Hub) List() config.Site {
	return (&App{Hosts: listed[:1]}).site(filepath.Join(h.dir, pagesName))
}

// Look implements discovery.Source: it returns the apps, and the list of them for names below localhost that no app
// has.
func (h *Hub) Look(context.Context) (*discovery.Found, error) {
	found, _ := h.find()
	return found, nil
}

func (h *Hub) find() (found *discovery.Found, version int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pages := filepath.Join(h.dir, pagesName)
	list := App{Hosts: listed[1:]}
	owners := []discovery.Owner{{Kind: "list", Name: "list of apps", Sites: []config.Site{list.site(pages)}}}
	for _, c := range h.apps {
		owners = append(owners, discovery.Owner{Kind: "app", Name: c.app.Name, Created: c.came, Sites: []config.Site{c.app.site(pages)}})
	}
	return discovery.Find(owners...), h.version
}

// Away implements discovery.Source: Look always answers.
func (h *Hub) Away(error) {}

// Run implements discovery.Source.
func (h *Hub) Run(ctx context.Context, publish func(*discovery.Found)) {
	for {
		found, version := h.find()
		publish(found)
		h.publishedVersion(version)
		select {
		case <-ctx.Done():
			return
		case <-h.changed:
		}
	}
}

// Report implements discovery.Source: the command of an app that cannot be served gets the reason.
func (h *Hub) Report(problems []discovery.Problem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Made anew: a problem that is not reported again is solved.
	h.problems = map[string]string{}
	for _, p := range problems {
		h.problems[p.Owner] = p.Message
	}
}

// publishedVersion says that the proxy serves a version of the apps.
func (h *Hub) publishedVersion(version int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.served = version
	// Closing wakes everybody who waits for a version. A new channel stands for the next one.
	close(h.serves)
	h.serves = make(chan struct{})
}

// awaitServed waits until a version is served, and returns what is wrong with an app in it.
func (h *Hub) awaitServed(version int, name string) error {
	limit := time.After(serveWait)
	for {
		h.mu.Lock()
		served, next, problem := h.served >= version, h.serves, h.problems[name]
		h.mu.Unlock()
		if served && problem != "" {
			return errors.New(problem)
		}
		if served {
			return nil
		}

		select {
		case <-next:
		case <-limit:
			return errors.New("the proxy does not serve it in time: its log says why")
		}
	}
}

// change announces a change, and returns its version. It is called with mu locked.
func (h *Hub) change() int {
	h.version++
	select {
	// One signal stands for any number of changes, as all apps are read after it.
	case h.changed <- struct{}{}:
	default:
	}
	return h.version
}

// maxMessage bounds a command's message, in bytes.
const maxMessage = 64 << 10

// serve answers one command. Its app is registered until its connection ends.
func (h *Hub) serve(conn net.Conn) {
	defer conn.Close()
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}

	h.conns[conn] = struct{}{}
	ports := h.ports
	h.mu.Unlock()
	c := &command{hub: h, conn: conn, came: time.Now()}
	defer c.gone()

	// By the greeting a command knows that the proxy runs: of one that is stopped, the kernel would still accept
	// connections.
	c.send(reply{Ports: &ports})
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 4<<10), maxMessage)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			c.send(reply{Error: "a message that cannot be read: " + err.Error()})
			return
		}
		c.answer(&r)
	}
}

// command is one that is connected.
type command struct {
	hub   *Hub
	conn  net.Conn
	came  time.Time
	group int  // behind hub.mu: the app's process group; 0: none that is left to the proxy
	app   *App // behind hub.mu, and never changed: another takes its place; nil: none is registered

	writing sync.Mutex
}

// sendTimeout is how long a command may take to read a message.
const sendTimeout = 5 * time.Second

func (c *command) send(r reply) {
	line, err := json.Marshal(r)
	if err != nil {
		return
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	// A command that is stopped (SIGSTOP) reads nothing, and must not be waited for.
	_ = c.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	if _, err := c.conn.Write(append(line, '\n')); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		c.conn.Close() // it is read from no more
	}
}

func (c *command) answer(r *request) {
	switch {
	case r.Register != nil:
		c.send(c.register(r.Register))
	case r.Target != nil:
		c.move(*r.Target)
	case r.Group != nil:
		c.hub.mu.Lock()
		c.group = *r.Group
		c.hub.mu.Unlock()
	case r.List:
		c.send(reply{Apps: c.hub.list()})
	case r.Stop != "":
		c.send(c.hub.stop(r.Stop))
	}
}

// serveWait is how long a registration waits until its site is served.
const serveWait = 10 * time.Second

func (c *command) register(a *App) reply {
	hosts, err := canonical(a.Hosts)
	if err = errors.Join(err, checkTarget(a.Target), checkHostHeader(a.HostHeader)); err != nil {
		return reply{Error: err.Error()}
	}
	a.Hosts = hosts

	h := c.hub
	h.mu.Lock()
	if c.app != nil {
		h.mu.Unlock()
		return reply{Error: "a connection registers one app"}
	}

	if other, host := h.holder(hosts); other != nil {
		taken := *other
		h.mu.Unlock()
		return reply{Error: (&Taken{taken, host}).Error(), Taken: &taken, Host: host}
	}

	a.URL = h.ports.URL(hosts[0])
	all := append([]App{*a}, h.sorted()...)
	c.app = a
	h.apps = append(h.apps, c)
	h.emptied = time.Time{}
	version := h.change()
	h.mu.Unlock()

	// Only once the site is served, so that a URL works as soon as the command prints it.
	if err := h.awaitServed(version, a.Name); err != nil {
		return reply{Error: hosts[0] + ": " + err.Error()}
	}
	h.log.Info("app registered", "url", a.URL, "directory", a.Dir, "command", a.Command)
	return reply{Apps: all}
}

// holder is the app that has one of these names, and the name. It is called with mu locked.
func (h *Hub) holder(hosts []string) (*App, string) {
	for _, host := range hosts {
		for _, c := range h.apps {
			if slices.Contains(c.app.Hosts, host) {
				return c.app, host
			}
		}
	}
	return nil, ""
}

// move notes where the command's app listens now.
func (c *command) move(target string) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if c.app == nil || checkTarget(target) != nil || c.app.Target == target {
		return
	}
	// A copy, as others may still read the app that it replaces.
	moved := *c.app
	moved.Target = target
	c.app = &moved
	c.hub.change()
}

// gone takes the app of a command away that has ended, however it has. Where the command was killed and could not end
// its app, the proxy does.
func (c *command) gone() {
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c.conn)
	if c.app == nil {
		return
	}

	h.apps = slices.DeleteFunc(h.apps, func(other *command) bool { return other == c })
	if len(h.apps) == 0 {
		h.emptied = time.Now()
	}
	h.change()
	h.log.Info("app gone", "url", c.app.URL)

	// Never group 1: kill(2) takes -1 for every process that the user may end.
	if c.group > 1 && !h.closed {
		// Ending a group may take seconds, which the hub must not wait for.
		go launch.EndGroup(c.group)
	}
}

func (h *Hub) list() []App {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sorted()
}

// sorted are the apps in the order of their names. It is called with mu locked.
func (h *Hub) sorted() []App {
	apps := make([]App, len(h.apps))
	for i, c := range h.apps {
		apps[i] = *c.app
	}
	slices.SortFunc(apps, func(a, b App) int { return cmp.Compare(a.Name, b.Name) })
	return apps
}

// stop asks the command of an app to end.
func (h *Hub) stop(name string) reply {
	h.mu.Lock()
	at := slices.IndexFunc(h.apps, func(c *command) bool { return c.app.Name == name || slices.Contains(c.app.Hosts, name) })
	if at < 0 {
		h.mu.Unlock()
		return reply{Unknown: true}
	}
	c := h.apps[at]
	app := *c.app
	h.mu.Unlock()
	c.send(reply{Stop: true})
	return reply{Apps: []App{app}}
}
