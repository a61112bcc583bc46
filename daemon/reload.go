package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/internal/regular"
	"padlock/proxy"
	"padlock/proxy/socket"
)

// File is a configuration's file, which is read again at SIGHUP and when the admin endpoint is asked to.
type File struct {
	Name  string
	Load  func(name string, warn func(config.Error)) (*config.Config, error)
	Watch bool // it is read again when it changes, too
}

// reloader brings other configurations into service: a file's, at SIGHUP, when it is asked to, and with Watch when
// the file changes; and what sources add to it.
type reloader struct {
	file       *File          // nil: there is none
	signals    chan os.Signal // nil with file
	log        *slog.Logger
	reopenLogs func() // goes on in the log files that have the names now

	before     *os.File    // is notified of each reload: the padlock that this one has replaced; nil: there is none
	handedOver atomic.Bool // another padlock has the listeners: what is open here is judged, and nothing else

	server       *proxy.Server // set by startReloader, as is what follows
	certificates *certificateService
	tasks        *tasks

	mu         sync.Mutex     // one reload at a time
	base       *config.Config // without what sources add; what is served is certificates.config()
	discovered discovered
	plain      *config.Config // base with what sources add, without overrides
	overrides  *Overrides
	commanded  bool // commands reach this padlock
	unwritten  bool // deploys have come to count no longer, and the file does not know

	shown   atomic.Pointer[shown] // for those who do not wait for a change
	deploys deployer
	apart   apart

	successor successor
}

// shown is what others look at without mu.
type shown struct {
	plain *config.Config
	o     *Overrides
}

// show is called with mu locked, after each change of plain or overrides.
func (r *reloader) show() { r.shown.Store(&shown{r.plain, r.overrides}) }

// startReloader follows file and sources until stopReloader, or until the end begins: where another padlock takes over,
// until that of the last connection.
func (d *daemon) startReloader(ctx context.Context) error {
	r := d.reloader
	r.server, r.certificates, r.tasks, r.before = d.server, d.certificates, newTasks(ctx), d.inherited.reloads
	// DNS may take seconds, which the start does not wait for.
	r.tasks.Go(func() { r.checkNames(d.cfg, nil) })
	// For a container, names are resolved outside of it.
	if r.file == nil && os.Getpid() != 1 {
		r.tasks.Go(func() { warnUnresolved(r.tasks.ctx, d.cfg, r.log) })
	}

	for i := range r.discovered.sources {
		r.tasks.Go(func() { r.follow(i) })
	}

	if r.file != nil {
		r.tasks.Go(r.followFile)
	}

	return nil
}

func (d *daemon) stopReloader() { d.reloader.tasks.close() }

// change does something that changes what is served, one after the other. It returns when that is done or, with
// ErrEnded, as soon as the end begins: a configuration may take long to read and to build, and nothing waits for one
// that nobody will be served by. Until the proxy has ended it still judges what is open.
func (r *reloader) change(do func() error) error {
	done := make(chan error, 1)
	go func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		// After the end has begun, nobody waits for the result.
		if r.tasks.ctx.Err() == nil {
			done <- do()
		}
	}()

	select {
	case err := <-done:
		return err
	case <-r.tasks.ctx.Done():
		return proxy.ErrEnded
	}
}

// reload reads the file again. It returns when it is served, or why it is not.
func (r *reloader) reload() error { return r.change(r.readAgain) }

// reloadByCommand is reload, for which a restart waits, or console.ErrRestarting: who has an answer may rely on it.
func (r *reloader) reloadByCommand() error {
	end, err := r.apart.command()
	if err != nil {
		return err
	}
	defer end()
	return r.reload()
}

// readAgain is called with mu locked.
func (r *reloader) readAgain() error {
	// Logs are reopened even if the file is invalid: programs that rotate logs send SIGHUP and expect just that.
	r.reopenLogs()

	// The file is kept apart from what sources add, so that a change of either is merged with the other's latest
	// state.
	base, err := r.file.Load(r.file.Name, func(e config.Error) { r.log.Warn("the configuration has a key under an old name", "reason", e.Error()) })
	var next *config.Config
	var overrides *Overrides
	if err == nil {
		overrides, err = LoadOverrides(base)
	}
	if err == nil {
		next = r.discovered.merge(base)
		err = r.apply(overrides.Over(next))
	}

	if err = config.Located(r.file.Name, err); err != nil {
		// At the end of padlock a reload that comes too late is no error.
		if !errors.Is(err, proxy.ErrEnded) {
			r.log.Error("the configuration cannot be used; the one before is served on", "file", r.file.Name, "error", err)
		}
		return err
	}

	// Kept only once it is served: sources merge with what works.
	r.base, r.plain, r.overrides = base, next, overrides
	r.settle(nil)
	r.show()
	r.tellBefore()
	if r.handedOver.Load() {
		return nil
	}

	r.log.Info("configuration reloaded", "file", r.file.Name, "sites", len(r.certificates.config().Sites))
	return nil
}

// tellBefore has the padlock that this one has replaced judge by what is served now.
func (r *reloader) tellBefore() {
	if r.before != nil {
		// It may have ended, and then need not know.
		_, _ = r.before.Write([]byte{1})
	}
}

// settle notes what has become of deploys with the configuration that is served now, where containers are in the place
// of those of before, or nil. It is called with mu locked.
func (r *reloader) settle(before *config.Config) {
	left, gone := r.overrides.settled(r.plain, before)
	if reflect.DeepEqual(left.Deploys, r.overrides.Deploys) {
		return
	}
	for _, d := range gone {
		r.log.Info("a deploy no longer counts, as the targets in the configuration have changed since", "site", d.name(), "deployed", strings.Join(d.To, ", "))
	}
	r.overrides = left
	r.unwritten = true
	r.write(before)
}

// write has the file know what has become of deploys, if this is the padlock that commands reach: another one of the
// same storage may serve other targets by the same names. It is called with mu locked.
func (r *reloader) write(before *config.Config) {
	if !r.unwritten || !r.commanded || r.handedOver.Load() {
		return
	}
	r.unwritten = false
	file, err := LoadOverrides(r.base)
	if err == nil {
		file, _ = file.settled(r.plain, before)
		err = file.save(r.base)
	}
	if err != nil {
		r.log.Warn("that deploys no longer count could not be written", "error", err)
	}
}

// takeCommands is called when commands can reach this padlock.
func (r *reloader) takeCommands() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commanded = true
	r.write(nil)
}

// reloadAfter is reload once another padlock has taken over, or has reloaded since.
func (r *reloader) reloadAfter() error {
	r.handedOver.Store(true)
	again := r.readAgain
	if r.file == nil {
		again = r.readOverrides
	}
	if err := r.change(again); !errors.Is(err, proxy.ErrEnded) {
		return err
	}
	return nil // nothing is open any more
}

// readOverrides is readAgain where there is no file. It is called with mu locked.
func (r *reloader) readOverrides() error {
	overrides, err := LoadOverrides(r.base)
	if err == nil {
		err = r.apply(overrides.Over(r.plain))
	}
	if err != nil {
		return err
	}
	r.overrides = overrides
	r.show()
	return nil
}

const (
	watchEvery = 500 * time.Millisecond
	maxWatched = 16 << 20 // bytes, as a configuration has at most
)

// followFile reads the file again at each signal, and with Watch at each change.
func (r *reloader) followFile() {
	var ticks <-chan time.Time
	if r.file.Watch {
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		ticks = ticker.C
	}

	// Contents are compared, as editors and ConfigMaps replace files in ways that change times and inodes at will.
	before, _ := regular.Named(r.file.Name, maxWatched)
	if r.file.Watch {
		_ = r.change(r.readIfChanged)
	}
	for {
		select {
		case <-r.tasks.ctx.Done():
			// The other padlock may have to know what this one has no time for.
			select {
			case signal := <-r.signals:
				r.successor.heard(signal)
			default:
			}
			return
		case signal := <-r.signals:
			r.successor.heard(signal)
			_ = r.reload() // it has been logged
		case <-ticks:
			if now, err := regular.Named(r.file.Name, maxWatched); err == nil && string(now) != string(before) {
				// Noted even if the reload fails, so that the same error is logged once per change.
				before = now
				_ = r.reload()
			}
		}
	}
}

// readIfChanged is readAgain where the file is another than the one that was read at the start, which may have been some
// time ago. It is called with mu locked.
func (r *reloader) readIfChanged() error {
	next, err := r.file.Load(r.file.Name, func(config.Error) {})
	if err == nil && reflect.DeepEqual(next, r.base) {
		return nil
	}
	return r.readAgain()
}

// apply serves another configuration, or leaves all as it is. It is called with mu locked.
func (r *reloader) apply(next *config.Config) error {
	before := r.certificates.config()
	if r.handedOver.Load() {
		return r.judge(before, next)
	}
	// Nothing is changed where a part could not be: half of a configuration would be worse than the old one.
	if keys := restartKeys(before, next); len(keys) > 0 {
		return fmt.Errorf("%s: takes effect only with a new start; nothing has been changed", strings.Join(keys, ", "))
	}

	// Ports are opened before anything is published, as opening may fail.
	added, gone, err := changedListeners(before, next)
	if err != nil {
		return err
	}

	publish, err := r.certificates.prepare(r.tasks.ctx, next)
	if err == nil {
		err = r.server.Reload(next, publish)
	}

	if err != nil {
		closeListeners(added)
		return err
	}

	// New listeners are served before old ones close, so that moving a site leaves no gap.
	r.server.Add(added...)
	r.server.Remove(gone...)
	r.tasks.Go(func() { r.checkNames(next, before) })
	return nil
}

// judge has what is open judged by another configuration. Nothing else of it matters any more, such as what takes
// effect only with a new start.
func (r *reloader) judge(before, next *config.Config) error {
	// Listeners and limits belong to the other padlock now. Only what decides about open connections is taken.
	rules := *before
	rules.Sites, rules.Trusted, rules.UnderscoresInHeaders, rules.Certificates.Files = next.Sites, next.Trusted, next.UnderscoresInHeaders, next.Certificates.Files
	publish, err := r.certificates.prepare(r.tasks.ctx, &rules)
	if err != nil {
		return err
	}
	return r.server.Reload(&rules, publish)
}

// changedListeners opens what only the next configuration has, and returns the addresses that only the one before had.
func changedListeners(before, next *config.Config) (added []proxy.Listener, gone []string, err error) {
	old, wants := listenerSpecs(before), listenerSpecs(next)
	for _, w := range wants {
		if slices.Contains(old, w) {
			continue
		}
		l, err := socket.Listen(w.address)
		if err != nil {
			closeListeners(added)
			return nil, nil, listenError(next, err)
		}

		added = append(added, proxy.Listener{Listener: l, Address: w.address, Plain: w.plain})
	}

	for _, w := range old {
		if !slices.Contains(wants, w) {
			gone = append(gone, w.address)
		}
	}

	return added, gone, nil
}

// withoutRules is what cannot change while padlock runs: all but the rules, which are merged with what is found.
func withoutRules(d *config.Docker) *config.Docker {
	if d == nil {
		return nil
	}
	engine := *d
	engine.Access = nil
	return &engine
}

// restartKeys are those that differ and cannot be changed while padlock runs.
func restartKeys(a, b *config.Config) (keys []string) {
	before, after := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range before.NumField() {
		key := before.Type().Field(i).Tag.Get("yaml")
		x, y := before.Field(i).Interface(), after.Field(i).Interface()
		switch key {
		case "sites", "trusted_proxies", "underscores_in_headers":
			continue
		case "listen":
			// The addresses and Alt-Svc can change while padlock runs. All that is left of the key cannot.
			one, other := a.Listen, b.Listen
			one.HTTPS, other.HTTPS, one.HTTP, other.HTTP = nil, nil, nil, nil
			one.AltSvc, other.AltSvc = "", ""
			x, y = one, other
		case "docker":
			x, y = withoutRules(a.Docker), withoutRules(b.Docker)
		case "certificates":
			one, other := a.Certificates, b.Certificates
			one.Files, other.Files = nil, nil
			x, y = one, other
		}

		if !reflect.DeepEqual(x, y) {
			keys = append(keys, key)
		}
	}
	return keys
}
