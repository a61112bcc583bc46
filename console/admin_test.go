package console_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"padlock/console"
	"padlock/handshake"
)

func admin(t *testing.T, recent *handshake.Recent) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- console.NewAdmin(recent, nil, "tcp", nil).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

// A web page that rebinds its name to this machine, or that asks across origins, reads nothing.
func TestTheAdminEndpointAnswersToThisMachineOnly(t *testing.T) {
	url := admin(t, handshake.NewRecent(4))
	for _, c := range []struct {
		host, origin string
		want         int
	}{
		{"localhost", "", 200}, {"127.0.0.1:2020", "", 200}, {"[::1]:2020", "", 200},
		{"evil.example", "", 403}, {"localhost.evil.example", "", 403}, {"localhost", "https://evil.example", 403},
	} {
		request, _ := http.NewRequest("GET", url+"/healthz", nil)
		request.Host = c.host
		if c.origin != "" {
			request.Header.Set("Origin", c.origin)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("%s %s: %d, not %d", c.host, c.origin, response.StatusCode, c.want)
		}
	}
}

func TestHandshakesAreListedAndFollowed(t *testing.T) {
	recent := handshake.NewRecent(4)
	url := admin(t, recent)
	event := func(id uint64, outcome handshake.Outcome, sni string) {
		recent.Handshake(&handshake.Event{ID: id, Outcome: outcome, SNI: sni, Remote: "192.0.2.1:1"})
	}
	event(1, handshake.Complete, "a.test")
	event(2, handshake.Failed, "b.test")
	for query, want := range map[string]string{"": "12", "?outcome=failures": "2", "?sni=a.test": "1", "?remote=192.0.2.9": "", "?outcome=complete": "1"} {
		response, err := http.Get(url + "/handshakes" + query)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		got := ""
		for _, id := range []string{"1", "2"} {
			if strings.Contains(string(body), `"id":`+id+",") {
				got += id
			}
		}
		if got != want {
			t.Errorf("%s: %q, not %q", query, got, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, "GET", url+"/handshakes?follow=1&format=line", nil)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	go func() {
		for id := uint64(3); ctx.Err() == nil; id++ { // until the follower listens
			event(id, handshake.Complete, "c.test")
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || !strings.Contains(line, "c.test") {
		t.Errorf("%q, %v", line, err)
	}
	if response, err := http.Get(url + "/handshakes?format=poem"); err != nil || response.StatusCode != 400 {
		t.Error(response, err)
	}
}
