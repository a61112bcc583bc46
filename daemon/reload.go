package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"padlock/config"
	"padlock/internal/regular"
	"padlock/proxy"
	"padlock/proxy/socket"
)

// File is a configuration's file, which is read again at SIGHUP and when the admin endpoint is asked to.
type File struct {
	Name  string
	Load  func(name string) (*config.Config, error)
	Watch bool // it is read again when it changes, too
}

// reloader brings other configurations into service: a file's, at SIGHUP, when it is asked to, and with watch when the file changes; and
// what containers add to it.
type reloader struct {
	name   string // of the file; "": there is none
	load   func(name string) (*config.Config, error)
	watch  bool
	reopen func() // goes on in the log files that have the names now; set before start

	signals chan os.Signal
	mu      sync.Mutex     // one reload at a time
	base    *config.Config // without what containers add
	current *config.Config
	running sync.WaitGroup
	log     *slog.Logger

	containers containers
}

// earlySignals are those that come to a padlock that another one has started, before it reads its file.
var earlySignals = make(chan os.Signal, 1)

// CatchEarly comes first in a program: until then SIGHUP is ignored, as whoever starts it has seen to that.
func CatchEarly() {
	if os.Getenv(readyVariable) != "" {
		signal.Notify(earlySignals, syscall.SIGHUP)
	}
}

// catch takes signals from the beginning, also before there is something to reload.
func (r *reloader) catch() {
	if r.name == "" {
		return
	}
	r.signals = make(chan os.Signal, 1)
	signal.Notify(r.signals, syscall.SIGHUP)
	select {
	case s := <-earlySignals:
		select {
		case r.signals <- s:
		default: // another one has come
		}
	default:
	}
	signal.Stop(earlySignals)
}

// start follows file and containers until ctx ends. It returns what reads the file again and answers when it is served, or why it is not;
// nil if there is no file.
func (r *reloader) start(ctx context.Context, cfg *config.Config, k *keeper, server *proxy.Server, log *slog.Logger) func() error {
	r.current, r.log = cfg, log
	r.running.Go(func() { r.checkNames(ctx, cfg, nil, log) })
	r.follow(ctx, k, server, log)
	if r.name == "" {
		return nil
	}
	reload := func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reopen() // whatever the file says: those who rotate logs send SIGHUP
		base, err := r.load(r.name)
		if err == nil {
			err = r.apply(ctx, r.containers.merge(base), k, server)
		}
		if err = config.Located(r.name, err); err != nil {
			if !errors.Is(err, proxy.ErrEnded) {
				log.Error("the configuration cannot be used; the one before is served on", "file", r.name, "error", err)
			}
			return err
		}
		r.base = base
		log.Info("configuration reloaded", "file", r.name, "sites", len(r.current.Sites))
		return nil
	}
	r.running.Go(func() {
		r.run(ctx, r.signals, func() { _ = reload() }) // it has been logged
	})
	return reload
}

func (r *reloader) wait() { r.running.Wait() }

const (
	watchEvery = 500 * time.Millisecond
	maxWatched = 16 << 20 // bytes, as a configuration has at most
)

func (r *reloader) run(ctx context.Context, signals <-chan os.Signal, reload func()) {
	var ticks <-chan time.Time
	if r.watch {
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		ticks = ticker.C
	}
	seen, _ := regular.Named(r.name, maxWatched)
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			reload()
		case <-ticks:
			if now, err := regular.Named(r.name, maxWatched); err == nil && string(now) != string(seen) {
				seen = now
				reload()
			}
		}
	}
}

// apply serves another configuration, or leaves all as it is.
func (r *reloader) apply(ctx context.Context, next *config.Config, k *keeper, server *proxy.Server) error {
	if keys := restartKeys(r.current, next); len(keys) > 0 {
		return fmt.Errorf("%s: takes effect only with a new start; nothing has been changed", strings.Join(keys, ", "))
	}
	added, gone, err := changedListeners(r.current, next)
	if err != nil {
		return err
	}
	publish, err := k.reload(ctx, next)
	if err == nil {
		err = server.Reload(next, publish)
	}
	if err != nil {
		closeListeners(added)
		return err
	}
	server.Add(added...)
	server.Remove(gone...)
	before := r.current
	r.running.Go(func() { r.checkNames(ctx, next, before, r.log) })
	r.current = next
	return nil
}

// changedListeners opens what only the next configuration has, and tells what only the one before had.
func changedListeners(before, next *config.Config) (added []proxy.Listener, gone []string, err error) {
	old, wants := wantedListeners(before), wantedListeners(next)
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

// restartKeys are those that differ and cannot be changed while padlock runs.
func restartKeys(a, b *config.Config) (keys []string) {
	before, after := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range before.NumField() {
		key := before.Type().Field(i).Tag.Get("yaml")
		x, y := before.Field(i).Interface(), after.Field(i).Interface()
		switch key {
		case "sites", "trusted_proxies", "drop_aliases":
			continue
		case "listen":
			one, other := a.Listen, b.Listen
			one.HTTPS, other.HTTPS, one.HTTP, other.HTTP = nil, nil, nil, nil
			one.AltSvc, other.AltSvc = "", ""
			x, y = one, other
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
