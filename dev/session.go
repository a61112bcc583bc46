package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"padlock/dev/launch"
)

// Session is one app from its start to its end.
type Session struct {
	App App

	// Join connects to the proxy, and starts it if none runs.
	Join func(ctx context.Context) (*Client, error)
	// Command returns what to run for an app that is registered, beside others; nil: the app runs already, on Port.
	Command func(app App, others []App) (launch.Command, error)
	// Port that the app is given, or on which it listens already: a process of this user or root.
	Port int
	// Restart an app that ends by itself, and not by Ctrl-C.
	Restart bool
	// Interrupt is the signal by which the app is asked to end when ctx does.
	Interrupt func() os.Signal
	// Signals are passed on to the app.
	Signals <-chan os.Signal
	// Also are further names that the app is asked under when it begins to listen: those that it has on the network.
	Also []string

	Report Reporter
}

// Reporter shows the person who starts an app how it goes. Its methods are called from one goroutine at a time.
type Reporter interface {
	// It is served; the first time, before it is started, and then whenever its URL is another.
	Registered(app App)
	Listening(app App, at netip.AddrPort)   // and whenever it listens somewhere else
	Silent(app App)                         // it listens no longer
	PortTaken(app App, port int, by string) // by another user of this machine, to whom no request goes
	ProxyLost(err error)                    // nil: another proxy is there
	HostRefused(app App, r Refusal)         // by the app, which listens
	Ended(app App, code int, again bool)    // by itself
	Stopped(app App, code int)              // because it was asked to
}

const (
	lookOften   = 100 * time.Millisecond // while somebody waits for the app, or where it costs little
	lookLess    = 300 * time.Millisecond // while it builds for long
	lookSeldom  = time.Second            // while it listens; and one that has not for a minute may never do so, as a worker
	rejoinPause = 500 * time.Millisecond
	againPause  = time.Second
)

// Run serves the app until it ends or ctx does, and returns its exit code.
func (s *Session) Run(ctx context.Context) (code int, err error) {
	client, app, others, err := s.join(ctx)
	if err != nil {
		return 0, err
	}
	r := &running{Session: s, client: client, app: app, refused: make(chan *Refusal)}
	// A function, as rejoin puts another client in its place.
	defer func() { r.client.Close() }()
	probing, cancel := context.WithCancel(ctx)
	r.probing = probing
	// Deferred calls run in reverse: the probes are cancelled first and then waited for.
	defer r.probes.Wait()
	defer cancel()
	s.Report.Registered(app)
	for {
		if s.Command != nil {
			command, err := s.Command(app, others)
			if err != nil {
				return 0, err
			}
			if r.process, err = launch.Start(command); err != nil {
				return 0, err
			}
			// A proxy that is lost is found again, and notified then.
			_ = r.client.Started(r.process.PID())
		}

		code, again := r.follow(ctx)
		if !again {
			return code, nil
		}

		select {
		case <-time.After(againPause):
		case <-ctx.Done():
			return code, nil
		}
	}
}

func (s *Session) join(ctx context.Context) (*Client, App, []App, error) {
	client, err := s.Join(ctx)
	if err != nil {
		return nil, App{}, nil, err
	}
	app, others, err := client.Register(ctx, s.App)
	if err != nil {
		client.Close()
		return nil, App{}, nil, err
	}
	return client, app, others, nil
}

// running is an app of a session that is registered.
type running struct {
	*Session
	client  *Client
	app     App
	process *launch.Process // nil: somebody else's
	at      netip.AddrPort  // zero: it does not listen
	silent  time.Time       // since when it does not
	taken   string          // the user who listens on its port instead, as reported; "": nobody

	probing context.Context // ends with Run
	probes  sync.WaitGroup
	refused chan *Refusal
	probed  netip.AddrPort
}

// follow informs the proxy where the app listens until the app has ended. It reports whether that is to be started
// again.
func (r *running) follow(ctx context.Context) (code int, again bool) {
	var ended <-chan struct{}
	if r.process != nil {
		ended = r.process.Done()
	}

	r.silent = time.Now()
	// The first look comes at once, as the app may listen already.
	look := time.NewTimer(0)
	defer look.Stop()
	lost := r.client.Ended()
	for {
		select {
		case <-ctx.Done():
			return r.end(ctx)
		case <-r.client.Stop():
			return r.end(context.Background())
		case <-ended:
			// Who types Ctrl-C wants the end, also of an app that is restarted otherwise.
			code, again := r.ended(r.Restart && !r.process.Interrupted())
			r.Report.Ended(r.app, code, again)
			return code, again
		case <-lost:
			if !r.rejoin(ctx) {
				return r.end(ctx)
			}
			lost = r.client.Ended()
		case s := <-r.Signals:
			if r.process != nil {
				r.process.Signal(s)
			}
		case refusal := <-r.refused:
			r.Report.HostRefused(r.app, *refusal)
		case <-look.C:
			r.look()
			look.Reset(r.pause())
		}
	}
}

// pause is how long to wait before the next look, which reads what all processes of the machine do, unless it is at one
// socket. When that is closed, another user of the machine may open its port: no request goes there for longer than this.
func (r *running) pause() time.Duration {
	switch waited := time.Since(r.silent); {
	case r.at.IsValid() && r.process != nil && r.process.Tracked():
		return lookOften
	case r.at.IsValid(), waited > time.Minute:
		return lookSeldom
	case waited > 15*time.Second:
		return lookLess
	}
	return lookOften
}

// look finds where the app listens, and notifies the proxy if that is somewhere else.
func (r *running) look() {
	at, ok := netip.AddrPort{}, false
	if r.process != nil {
		at, ok = r.process.Listening()
	} else {
		at, ok = launch.OnPort(r.Port)
	}

	if !ok {
		at = netip.AddrPort{}
		r.lookWhoElse()
	}
	if at == r.at {
		return
	}

	r.at, r.silent = at, time.Now()
	// A proxy that is lost is found again, and notified then.
	_ = r.client.Move(target(at))

	if !ok {
		r.Report.Silent(r.app)
		return
	}
	r.Report.Listening(r.app, at)
	r.probe()
}

// lookWhoElse reports, once, another user who listens on the app's port while the app does not.
func (r *running) lookWhoElse() {
	by, _ := launch.TakenBy(r.Port)
	if by != "" && by != r.taken {
		r.Report.PortTaken(r.app, r.Port, by)
	}
	r.taken = by
}

// probe asks the app once, where it listens, whether it accepts its names in the Host header, if it receives them.
func (r *running) probe() {
	if r.at == r.probed || r.app.HostHeader != "" && r.app.HostHeader != "keep" {
		return
	}
	r.probed = r.at
	app, at := r.app, r.at
	app.Hosts = append(slices.Clone(app.Hosts), r.Also...)
	r.probes.Go(func() {
		found := refusal(r.probing, app, at)
		if found == nil {
			return
		}

		select {
		case r.refused <- found:
		// Nobody reads the channel after the end of Run.
		case <-r.probing.Done():
		}
	})
}

func target(at netip.AddrPort) string {
	if !at.IsValid() {
		return ""
	}
	return net.JoinHostPort(at.Addr().String(), strconv.Itoa(int(at.Port())))
}

// rejoin registers the app again after the proxy has gone. It reports false when ctx ends, or somebody else has taken
// the name.
func (r *running) rejoin(ctx context.Context) bool {
	r.Report.ProxyLost(errors.New("the proxy has ended"))
	r.client.Close()
	for ctx.Err() == nil {
		r.App.Target = target(r.at)
		client, app, _, err := r.join(ctx)
		if err == nil {
			moved := app.URL != r.app.URL
			r.client, r.app = client, app
			if r.process != nil {
				_ = client.Started(r.process.PID())
			}
			r.Report.ProxyLost(nil)
			if moved {
				r.Report.Registered(app)
			}

			return true
		}

		var taken *Taken
		// This command's own registration may stand until the proxy notices that its connection has ended.
		if errors.As(err, &taken) && taken.By.PID != os.Getpid() {
			r.Report.ProxyLost(fmt.Errorf("its name is gone: %w", err))
			return false
		}

		select {
		case <-ctx.Done():
		case <-r.ending():
			return true // which is noticed next
		case <-time.After(rejoinPause):
		}
	}

	return false
}

// ending is closed when the app has ended; nil: it is somebody else's.
func (r *running) ending() <-chan struct{} {
	if r.process == nil {
		return nil
	}
	return r.process.Done()
}

// end asks the app to end.
func (r *running) end(ctx context.Context) (code int, again bool) {
	if r.process == nil {
		return 0, false
	}
	signal := os.Signal(os.Interrupt)
	if r.Interrupt != nil {
		signal = r.Interrupt()
	}
	// ctx may have ended already, and the app gets its time to end nevertheless.
	r.process.Stop(context.WithoutCancel(ctx), signal)
	code, again = r.ended(false)
	r.Report.Stopped(r.app, code)
	return code, again
}

func (r *running) ended(again bool) (int, bool) {
	code := r.process.Wait()
	// The group is gone, and another may get its number: the proxy must not end that one.
	_ = r.client.Started(0)
	r.at = netip.AddrPort{}
	_ = r.client.Move("")
	return code, again
}
