package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padlock/config"
	"padlock/proxy/message"
)

// checker asks a target for its health, through the same pool as requests.
type checker struct {
	target    *Target
	o         config.Health
	host      string
	low, high int

	healthy   atomic.Bool
	why       atomic.Pointer[string] // it is unhealthy; nil: it has always been
	recovered atomic.Int64           // when it last became healthy, in nanoseconds of the clock; 0: it has always been
	end       context.CancelFunc
	done      sync.WaitGroup
}

// startChecker takes a target for healthy until it is known not to be.
func startChecker(t *Target, o config.Health) *checker {
	c := &checker{target: t, o: o, host: o.Host}
	c.low, c.high, _ = config.ParseStatuses(o.Status) // was validated
	if c.host == "" {
		c.host = t.authority
	}
	c.healthy.Store(true)
	var ctx context.Context
	ctx, c.end = context.WithCancel(context.Background())
	c.done.Go(func() { c.run(ctx) })
	return c
}

func (c *checker) stop() {
	c.end()
	c.done.Wait()
}

func (c *checker) run(ctx context.Context) {
	good, bad, met := 0, 0, false // met: it has answered well before
	var down time.Time
	// The first check comes at once, so that a target that is down at the start gets no requests for long.
	timer := time.NewTimer(0)
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}

		err := c.ask(ctx)
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}

		switch {
		// An error at the end is our own doing.
		case ctx.Err() != nil:
			return
		case bad >= c.o.Fall:
			why := c.reason(err)
			c.why.Store(&why)
			if c.healthy.Swap(false) {
				down = time.Now()
				c.target.log.Warn("target is unhealthy: it gets no requests", "target", c.target.name, "reason", why, "checks", bad)
			}
		case c.healthy.Load():
		case good > 0 && !met:
			// A target that was never there has nothing to recover from.
			c.rise(down)
		case good >= c.o.Rise:
			c.recovered.Store(time.Now().UnixNano())
			c.rise(down)
		}

		met = met || good > 0
		// The random part keeps many nodes from asking at the same time.
		timer.Reset(c.o.Interval - c.o.Interval/10 + rand.N(c.o.Interval/5))
	}
}

// rise takes the target for healthy again.
func (c *checker) rise(down time.Time) {
	c.healthy.Store(true)
	c.target.log.Info("target is healthy again", "target", c.target.name, "unhealthy_for", time.Since(down).Round(time.Millisecond))
}

// verdict is an answer that does not make a target healthy.
type verdict string

func (v verdict) Error() string { return string(v) }

// reason says in plain words why a check has failed.
func (c *checker) reason(err error) string {
	var judged verdict
	if errors.As(err, &judged) {
		return string(judged)
	}
	return (&Error{Target: c.target.target, Err: err}).Reason()
}

func (c *checker) ask(ctx context.Context) error {
	var mine message.Context
	var late atomic.Bool
	// Cancelling looks like any other end, so the flag tells a timeout from the end of the checks.
	timer := time.AfterFunc(c.o.Timeout, func() { late.Store(true); mine.Cancel() })
	defer timer.Stop()
	err := c.exchange(ctx, &mine)
	if err != nil && late.Load() {
		return verdict(fmt.Sprintf("it did not answer within %s", c.o.Timeout))
	}
	return err
}

// exchange is one check, until mine or ctx ends.
func (c *checker) exchange(ctx context.Context, mine *message.Context) error {
	defer context.AfterFunc(ctx, mine.Cancel)()
	if c.target.dialer != nil {
		return c.target.dialer.probe(mine)
	}

	// The check uses the same pool as requests, so it finds what they would find: names, TLS and keep-alive.
	request := &message.Request{
		Method: "GET", Scheme: "http", Host: c.host, Target: c.o.Path, Proto: "HTTP/1.1", Fields: message.Fields{{Name: "User-Agent", Value: "padlock-health"}},
	}
	response, err := c.target.transport.RoundTrip(mine, request, ignored{})
	if err != nil {
		return err
	}

	if response.Tunnel != nil {
		// A 101 that nobody asked for would leave a connection open with each check.
		response.Tunnel.Close()
		return verdict("it answers with another protocol")
	}
	defer response.Body.Close()

	if response.Status < c.low || response.Status > c.high {
		reason := fmt.Sprintf("it answers %s with status %d, and health.status is %s", c.o.Path, response.Status, c.o.Status)
		switch response.Status {
		case 400, 403, 404, 421:
			// Django, Rails and virtual hosts answer only names that they know.
			if c.o.Host == "" {
				reason += fmt.Sprintf("; if it answers its own hosts alone, name one in health.host: it was asked as %s", c.host)
			}
		}
		return verdict(reason)
	}

	// The connection can be used again if this was all of the content.
	_, err = io.CopyN(io.Discard, response.Body, 64<<10)
	if err != nil && !errors.Is(err, io.EOF) {
		return verdict("it broke off its answer")
	}

	return nil
}

type ignored struct{}

func (ignored) Interim(int, message.Fields) error { return nil }

// share is the part of its weight that a target gets, which grows to 1 after it has recovered.
func (t *Target) share() float64 {
	if t.health == nil || t.health.o.SlowStart == 0 {
		return 1
	}
	since := t.health.recovered.Load()
	if since == 0 {
		return 1
	}
	elapsed := time.Duration(time.Now().UnixNano() - since)
	// A share of zero would divide by zero where load is computed, and never let the target prove itself.
	return min(max(float64(elapsed)/float64(t.health.o.SlowStart), 0.01), 1)
}

// authority is what a target is called in requests that do not carry the client's Host.
func authority(t config.Target) string {
	if t.Network == "unix" {
		// A socket's path is no host name, and most programs behind one accept localhost.
		return "localhost"
	}

	host, port, err := net.SplitHostPort(t.Address)
	standard := "80"
	if t.Scheme == "https" {
		standard = "443"
	}

	// RFC 9110 section 4.2.3: the default port is left out, as some programs compare the Host literally.
	switch {
	case err != nil || port != standard:
		return t.Address
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}

	return host
}
