package dev

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"sync"
	"time"
)

// Client is a command's connection to the proxy. It is safe for use from many goroutines.
type Client struct {
	Ports Ports

	dir     string
	conn    net.Conn
	lines   *bufio.Scanner
	replies chan reply
	stop    chan struct{} // closed when the proxy asks the command to end
	ended   chan struct{} // closed when the connection has ended

	asking sync.Mutex // one question at a time
}

// ErrNoProxy is the error where no proxy runs.
var ErrNoProxy = errors.New("no app runs")

// ErrNoApp is the error of a name that no app has.
var ErrNoApp = errors.New("no app has this name")

// ErrNotStarted is the error of a proxy that ends as it starts. Its log says why.
var ErrNotStarted = errors.New("the proxy did not start")

// Silent is the error of a proxy that runs and does not answer, such as one that is stopped.
type Silent struct{ PID int } // 0: not known

func (s *Silent) Error() string {
	if s.PID == 0 {
		return "padlock dev's proxy does not answer"
	}
	return fmt.Sprintf("padlock dev's proxy, process %d, does not answer", s.PID)
}

// helloTimeout is how long a proxy may take to greet, and answerTimeout to answer: longer than it waits for a
// registration to be served.
const (
	helloTimeout  = 5 * time.Second
	answerTimeout = serveWait + 5*time.Second
)

// Connect joins the proxy that runs. The directory has to be this user's own: whoever owns it is the proxy.
func Connect(ctx context.Context, dir string) (*Client, error) {
	switch err := private(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrNoProxy
	case err != nil:
		return nil, err
	}

	conn, err := (&net.Dialer{Timeout: helloTimeout}).DialContext(ctx, "unix", filepath.Join(dir, socketName))
	if err != nil {
		return nil, unconnected(err, dir)
	}
	c := &Client{dir: dir, conn: conn, lines: bufio.NewScanner(conn), replies: make(chan reply, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	// A scanner's own limit of 64 KiB is less than a list of many apps takes.
	c.lines.Buffer(make([]byte, 0, 4<<10), 16<<20)
	// A proxy that is stopped (SIGSTOP) still has its connections accepted, by the kernel.
	_ = conn.SetReadDeadline(time.Now().Add(helloTimeout))
	hello, err := c.next()
	if err != nil || hello.Ports == nil {
		conn.Close()
		return nil, unconnected(err, dir)
	}

	_ = conn.SetReadDeadline(time.Time{})
	c.Ports = *hello.Ports
	go c.read()
	return c, nil
}

// unconnected tells a proxy that does not answer from one that has ended or is about to.
func unconnected(err error, dir string) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return &Silent{runningIn(dir)}
	}
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	return ErrNoProxy
}

func (c *Client) next() (r reply, err error) {
	if !c.lines.Scan() {
		return r, errors.Join(c.lines.Err(), errors.New("the proxy has ended"))
	}
	return r, json.Unmarshal(c.lines.Bytes(), &r)
}

func (c *Client) read() {
	defer close(c.ended)
	stopped := false
	for {
		r, err := c.next()
		if err != nil {
			return
		}

		if r.Stop {
			if !stopped {
				close(c.stop)
			}
			stopped = true
			continue
		}

		select {
		case c.replies <- r:
		default: // nobody has asked
		}
	}
}

// Close ends the registration.
func (c *Client) Close() {
	c.conn.Close()
	<-c.ended
}

// Stop is closed when the command is asked to end.
func (c *Client) Stop() <-chan struct{} { return c.stop }

// Ended is closed when the proxy is gone.
func (c *Client) Ended() <-chan struct{} { return c.ended }

// ask sends a request, and waits for its reply.
func (c *Client) ask(ctx context.Context, r request) (reply, error) {
	c.asking.Lock()
	defer c.asking.Unlock()

	select {
	// The reply to a request that was given up would otherwise answer this one.
	case <-c.replies:
	default:
	}

	if err := c.send(r); err != nil {
		return reply{}, err
	}

	timeout := time.NewTimer(answerTimeout)
	defer timeout.Stop()

	select {
	case got := <-c.replies:
		switch {
		case got.Taken != nil:
			// A proxy of an older version does not say which name it is.
			return got, &Taken{*got.Taken, cmp.Or(got.Host, got.Taken.Hosts[0])}
		case got.Unknown:
			return got, ErrNoApp
		case got.Error != "":
			return got, errors.New(got.Error)
		}
		return got, nil
	case <-c.ended:
		return reply{}, errors.New("the proxy has ended")
	case <-timeout.C:
		return reply{}, &Silent{c.Ports.PID}
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

func (c *Client) send(r request) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	if _, err = c.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("the proxy does not answer: %w", err)
	}
	return nil
}

// Register serves an app until Close. It returns the app as it is served, and the others that are.
func (c *Client) Register(ctx context.Context, a App) (served App, others []App, err error) {
	r, err := c.ask(ctx, request{Register: &a})
	if err != nil {
		return App{}, nil, err
	}
	if len(r.Apps) == 0 {
		return App{}, nil, errors.New("the proxy has answered something else")
	}
	return r.Apps[0], r.Apps[1:], nil
}

// Move says where the registered app listens now; "" if it does not listen.
func (c *Client) Move(target string) error { return c.send(request{Target: &target}) }

// Started says which process group is the app's, for the proxy to end it if this command is killed; 0: it has ended.
func (c *Client) Started(group int) error { return c.send(request{Group: &group}) }

// List returns the apps that are registered.
func (c *Client) List(ctx context.Context) ([]App, error) {
	r, err := c.ask(ctx, request{List: true})
	return r.Apps, err
}

// StopApp asks the command of an app to end, and returns the app.
func (c *Client) StopApp(ctx context.Context, name string) (App, error) {
	r, err := c.ask(ctx, request{Stop: name})
	if err != nil || len(r.Apps) == 0 {
		return App{}, err
	}
	return r.Apps[0], nil
}

// startWait is how long a proxy may take to start.
const startWait = 20 * time.Second

// Join connects to the proxy that runs, or has start begin one. start returns what is closed when the proxy that it has
// begun ends early. Of several commands at once, one starts the proxy.
func Join(ctx context.Context, dir string, start func() (ended <-chan struct{}, err error)) (*Client, error) {
	if c, err := Connect(ctx, dir); !errors.Is(err, ErrNoProxy) {
		return c, err
	}
	if err := prepare(dir); err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	lock, err := lockFile(ctx, filepath.Join(dir, startName))
	if err != nil {
		return nil, fmt.Errorf("waiting for another command that starts the proxy: %w", err)
	}
	defer lock.Close()
	// Another command may have started the proxy while this one waited for the lock.
	if c, err := Connect(ctx, dir); !errors.Is(err, ErrNoProxy) {
		return c, err
	}

	ended, err := start()
	if err != nil {
		return nil, err
	}

	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()

	for {
		select {
		case <-ticker.C:
		case <-ended:
			return nil, ErrNotStarted
		case <-ctx.Done():
			return nil, errors.New("the proxy did not start in time")
		}
		if c, err := Connect(ctx, dir); !errors.Is(err, ErrNoProxy) {
			return c, err
		}
	}
}
