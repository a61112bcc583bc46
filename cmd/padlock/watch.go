package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"padlock/config"
	"padlock/dev"
	"padlock/internal/hint"
	"padlock/internal/regular"
	"padlock/internal/terminal"
)

func (p *program) watchCommand() *cli.Command {
	return &cli.Command{
		Name: "watch", Usage: "show the handshakes or the requests of the running padlock live", UsageText: "padlock watch [flags]\n\nExamples:\n  padlock watch --outcome failures\n  padlock watch --format json --sni example.com\n  padlock watch --requests --status 5xx", OnUsageError: onUsageError,
		Flags: []cli.Flag{
			storageFlag(), adminFlag("`ADDR` of the running padlock's admin endpoint (default: the socket in the storage directory, else that of padlock dev)"),
			choice("format", "story", "output format", "story", "line", "json"),
			choice("outcome", "", "only handshakes with this outcome; failures are all but complete and unused", "complete", "silent", "unused", "failed", "not_tls", "failures"),
			&cli.StringFlag{Name: "sni", Usage: "only names that contain `TEXT`", EnvVars: []string{"PADLOCK_SNI"}},
			&cli.StringFlag{Name: "remote", Usage: "only client addresses that contain `TEXT`", EnvVars: []string{"PADLOCK_REMOTE"}},
			&cli.BoolFlag{Name: "requests", Usage: "show the requests of sites with inspect, instead of handshakes, as line or json", EnvVars: []string{"PADLOCK_REQUESTS"}},
			&cli.StringFlag{Name: "text", Usage: "only requests with `TEXT` in their address, client or error", EnvVars: []string{"PADLOCK_TEXT"}},
			&cli.StringFlag{Name: "status", Usage: "only requests with this `STATUS`, such as 404, 5xx, failed or open", EnvVars: []string{"PADLOCK_STATUS"}},
			&cli.StringFlag{Name: "method", Usage: "only requests with this `METHOD`", EnvVars: []string{"PADLOCK_METHOD"}},
			&cli.StringFlag{Name: "site", Usage: "only requests of sites whose name contains `TEXT`", EnvVars: []string{"PADLOCK_SITE"}},
			&cli.StringFlag{Name: "slower", Usage: "only requests that took this `DURATION` or longer, such as 200ms", EnvVars: []string{"PADLOCK_SLOWER"}},
			&cli.BoolFlag{Name: "past", Usage: "print what was recorded, instead of what comes", EnvVars: []string{"PADLOCK_PAST"}},
		},
		Action: p.watch,
	}
}

func (p *program) watch(c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
	}

	path, query, err := watched(c)
	if err != nil {
		return err
	}
	if !c.Bool("past") {
		query.Set("follow", "1")
	}

	if terminal.Colour(p.stdout) {
		query.Set("colour", "1")
		query.Set("width", strconv.Itoa(terminal.Width(p.stdout)))
	}

	cfg := config.Default()
	applyStorage(c, cfg)
	p.sayOther(runningPadlock(c, cfg))
	response, err := adminGet(c.Context, cfg, path+"?"+query.Encode())
	if err != nil {
		return err
	}
	defer response.Body.Close()

	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		err := errors.New(strings.TrimSpace(string(text)))
		if response.StatusCode == http.StatusBadRequest {
			return usageError{err}
		}
		return err
	}

	_, err = io.Copy(p.stdout, response.Body)
	switch {
	case errors.Is(c.Context.Err(), context.Canceled):
		return nil
	case err != nil:
		return fmt.Errorf("the connection to padlock has ended: %w", err)
	}

	return nil
}

// ofRequests and ofHandshakes are flags that choose among one of the two.
var ofRequests, ofHandshakes = []string{"text", "status", "method", "site", "slower"}, []string{"outcome", "sni", "remote"}

// watched is what is asked of the running padlock.
func watched(c *cli.Context) (path string, query url.Values, err error) {
	query = url.Values{"format": {c.String("format")}}
	path, takes, others := "/handshakes", ofHandshakes, ofRequests
	if c.Bool("requests") {
		path, takes, others = "/requests", ofRequests, ofHandshakes
		// A request is told in a line.
		if c.String("format") == "story" {
			query.Set("format", "line")
		}
	}

	for _, name := range others {
		// A variable of the environment may be meant for the other kind.
		if slices.Contains(c.FlagNames(), name) && c.String(name) != "" {
			need := "--requests"
			if c.Bool("requests") {
				need = "handshakes: leave --requests out"
			}
			return "", nil, usageError{fmt.Errorf("--%s is for %s", name, need)}
		}
	}
	for _, name := range takes {
		query.Set(name, c.String(name))
	}
	if slower := c.String("slower"); slower != "" {
		if _, err := time.ParseDuration(slower); err != nil {
			return "", nil, usageError{fmt.Errorf("--slower: %q is not a duration such as 200ms", slower)}
		}
	}
	return path, query, nil
}

// runningPadlock is the one that a command without --admin means: that of the storage directory, else the proxy of
// padlock dev. If both run, other is the address of that proxy.
func runningPadlock(c *cli.Context, cfg *config.Config) (other string) {
	cfg.Admin.Address = c.String("admin")
	if cfg.Admin.Address != "" {
		return ""
	}
	apps := dev.AdminSocket(dev.Directory(cfg.StateDirectory()))
	if !answersAt(c.Context, apps) {
		return ""
	}
	if answersAt(c.Context, cfg.AdminSocket()) {
		return "unix:" + apps
	}
	cfg.Admin.Address = "unix:" + apps
	return ""
}

// answersAt reports whether somebody listens on a socket.
func answersAt(ctx context.Context, socket string) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// sayOther says how the proxy of padlock dev is shown, if another padlock is.
func (p *program) sayOther(other string) {
	if other != "" {
		terminal.Say(p.stderr, "the proxy of padlock dev runs, too; add --admin %s for it", other)
	}
}

// adminGet asks the running padlock for something.
func adminGet(ctx context.Context, cfg *config.Config, path string) (*http.Response, error) {
	return adminAsk(ctx, cfg, http.MethodGet, path)
}

func adminAsk(ctx context.Context, cfg *config.Config, method, path string) (*http.Response, error) {
	return adminSend(ctx, cfg, method, path, nil)
}

// restartsWithin is for how long a command waits for a restart: longer than one may take.
const restartsWithin = 90 * time.Second

// adminChange asks the running padlock to change something. While another padlock takes over, it waits for that one.
func (p *program) adminChange(ctx context.Context, cfg *config.Config, path string, body []byte) (*http.Response, error) {
	told := false
	for end := time.Now().Add(restartsWithin); ; {
		response, err := adminSend(ctx, cfg, http.MethodPost, path, bytes.NewReader(body))
		switch {
		// One that hands over closes connections that it has not answered, and then changes nothing any more.
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		case err == nil && response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != "":
		default:
			return response, err
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return response, err
		}
		if err == nil {
			response.Body.Close()
			if !told {
				terminal.Say(p.stderr, "padlock is being restarted; waiting")
				told = true
			}
		}

		select {
		case <-time.After(250 * time.Millisecond): // a start takes some hundred
		case <-ctx.Done():
		}
	}
}

func adminSend(ctx context.Context, cfg *config.Config, method, path string, body io.Reader) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return adminDial(ctx, cfg)
	}}}
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, body)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		remedy := "start one; if it runs with another --storage or --admin, give the same here"
		if errors.Is(err, fs.ErrPermission) {
			remedy = "run the command as the user whose padlock that is, or with sudo"
		}
		return nil, hint.Add(unanswered{cmp.Or(cfg.Admin.TCP(), cfg.AdminSocket()), err}, remedy)
	}
	return response, nil
}

// unanswered is why there is no answer on an admin endpoint. Most often nobody is there, and the error says nothing more;
// or it is another user's.
type unanswered struct {
	address string
	error
}

// Error implements error.
func (u unanswered) Error() string {
	if errors.Is(u.error, fs.ErrPermission) {
		return "only the user of that padlock may open " + u.address
	}
	if errors.Is(u.error, regular.ErrPlanted) {
		return fmt.Sprintf("no padlock is asked on %s: %v", u.address, u.error)
	}
	return "no padlock answers on " + u.address
}

// Unwrap has errors.Is see the reason.
func (u unanswered) Unwrap() error { return u.error }

// adminDial connects to the running padlock: to the socket, or to a loopback address where one is given.
func adminDial(ctx context.Context, cfg *config.Config) (net.Conn, error) {
	var d net.Dialer
	if address := cfg.Admin.TCP(); address != "" {
		return d.DialContext(ctx, "tcp", address)
	}
	if cfg.Admin.Off() {
		return nil, errors.New("the admin endpoint is off")
	}
	// What another user has put in its place would be told what to do, and could answer anything.
	if err := regular.CheckPlace(cfg.AdminSocket()); errors.Is(err, regular.ErrPlanted) {
		return nil, err
	}
	return d.DialContext(ctx, "unix", cfg.AdminSocket())
}
