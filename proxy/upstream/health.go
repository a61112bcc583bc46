package upstream

import (
	"context"
	"errors"
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

	well      atomic.Bool
	recovered atomic.Int64 // when it last became well, in nanoseconds of the clock; 0: it has always been
	end       context.CancelFunc
	done      sync.WaitGroup
}

// startChecker takes a target for well until it is known not to be.
func startChecker(t *Target, o config.Health) *checker {
	c := &checker{target: t, o: o, host: o.Host}
	c.low, c.high, _ = config.ParseStatuses(o.Status) // was validated
	if c.host == "" {
		c.host = t.authority
	}
	c.well.Store(true)
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
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if c.ask(ctx) == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		switch {
		case ctx.Err() != nil:
			return
		case bad >= c.o.Fall:
			c.well.Store(false)
		case c.well.Load():
		case good > 0 && !met: // it was not there yet; there is nothing to recover from
			c.well.Store(true)
		case good >= c.o.Rise:
			c.recovered.Store(time.Now().UnixNano())
			c.well.Store(true)
		}
		met = met || good > 0
		timer.Reset(c.o.Interval - c.o.Interval/10 + rand.N(c.o.Interval/5)) // so that many nodes do not ask at once
	}
}

var errUnwell = errors.New("its answer has another status")

func (c *checker) ask(ctx context.Context) error {
	var mine message.Context
	timer := time.AfterFunc(c.o.Timeout, mine.Cancel)
	defer timer.Stop()
	defer context.AfterFunc(ctx, mine.Cancel)()
	if c.target.dialer != nil {
		return c.target.dialer.probe(&mine)
	}
	request := &message.Request{
		Method: "GET", Scheme: "http", Host: c.host, Target: c.o.Path, Proto: "HTTP/1.1", Fields: message.Fields{{Name: "User-Agent", Value: "padlock-health"}},
	}
	response, err := c.target.back.RoundTrip(&mine, request, ignored{})
	if err != nil {
		return err
	}
	if response.Tunnel != nil {
		response.Tunnel.Close()
		return errUnwell
	}
	defer response.Body.Close()
	if response.Status < c.low || response.Status > c.high {
		return errUnwell
	}
	_, err = io.CopyN(io.Discard, response.Body, 64<<10) // the connection can be used again if that was all
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
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
	return min(max(float64(elapsed)/float64(t.health.o.SlowStart), 0.01), 1)
}

// authority is what a target is called in requests that do not carry the client's Host.
func authority(t config.Target) string {
	if t.Network == "unix" {
		return "localhost"
	}
	host, port, err := net.SplitHostPort(t.Address)
	standard := "80"
	if t.Scheme == "https" {
		standard = "443"
	}
	switch {
	case err != nil || port != standard:
		return t.Address
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}
	return host
}
