package proxy_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// Two nodes with one Redis count a client's requests together, over every protocol. While Redis is away each counts
// for itself, or refuses what cannot be counted, as the route says.
func TestNodesShareARateLimit(t *testing.T) {
	t.Parallel()
	server := servicetest.StartRedis(t)
	// On a busy machine Redis may take longer than a node waits, which then counts alone: another route has a count that is not spent.
	const tries = 20
	var opens strings.Builder
	for n := range tries {
		fmt.Fprintf(&opens, "      - {path: /open%d, respond: {body: ok}, rate_limit: {requests: 12, per: 1h, redis: \"REDIS\"}}\n", n)
	}
	file := strings.ReplaceAll(`
sites:
  - hosts: [localhost]
    routes:
OPEN      - {path: /closed, respond: {body: ok}, rate_limit: {requests: 1000, per: 1h, redis: "REDIS", on_failure: closed}}
`, "OPEN", opens.String())
	file = strings.ReplaceAll(file, "REDIS", server.URL)
	one, two := startFile(t, "%s", file), startFile(t, "%s", file)
	nodes := []map[string]*http.Client{one.everyClient(t), two.everyClient(t)}

	alone := func() int {
		return strings.Count(one.log.String()+two.log.String(), "rate limits are not shared")
	}
	shared := func(n int) (allowed int, ok bool) {
		before := alone()
		for range 3 {
			for _, clients := range nodes {
				for name, client := range clients {
					switch response, body := fetch(t, client, "GET", fmt.Sprint("https://localhost/open", n)); {
					case response.StatusCode == 200 && response.Header.Get("RateLimit") != "":
						allowed++
					case response.StatusCode != 429 || response.Header.Get("Retry-After") == "":
						t.Errorf("%s: %s %.100s %v", name, response.Status, body, response.Header)
					}
				}
			}
		}
		return allowed, before == alone()
	}
	for n := 0; ; n++ {
		allowed, ok := shared(n)
		if ok && allowed == 12 {
			break
		}
		if ok || n == tries-1 {
			t.Fatalf("%d were allowed", allowed)
		}
		for _, clients := range nodes { // until Redis answers both
			servicetest.Until(t, func() error {
				if response, _ := fetch(t, clients["h1"], "GET", "https://localhost/closed"); response.StatusCode != 200 {
					return errors.New(response.Status)
				}
				return nil
			})
		}
	}

	server.Stop()
	for _, clients := range nodes {
		for name, client := range clients {
			began := time.Now()
			if response, body := fetch(t, client, "GET", "https://localhost/closed"); response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
				t.Errorf("%s: closed: %s %.100s", name, response.Status, body)
			}
			if response, body := fetch(t, client, "GET", "https://localhost/open0"); response.StatusCode != 200 {
				t.Errorf("%s: open: %s %.100s", name, response.Status, body)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s: two requests took %s", name, took)
			}
		}
	}

	server.Start()
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		response, _ := fetch(t, nodes[0]["h3"], "GET", "https://localhost/closed")
		if response.StatusCode == 200 {
			break
		}
		if time.Now().After(limit) {
			t.Fatal(response.Status)
		}
	}
}

// A client has so many requests at once and no more, by whichever protocol; a place is free again when its response
// has ended, when the client leaves, and when it is refused for another reason.
func TestAClientHasSoManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	arrived, leave := make(chan struct{}, 100), make(chan struct{})
	target := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			select {
			case <-leave:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "done")
	})
	e := startFile(t, `
sites:
  - hosts: [localhost]
    rate_limit: {concurrent: 2}
    routes: [{to: %q}, {path: /limited, to: %[1]q, rate_limit: {requests: 1, per: 1h}}]
`, target)
	clients := e.everyClient(t)

	for name, client := range clients {
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				if response, body := fetch(t, client, "GET", "https://localhost/slow"); response.StatusCode != 200 || body != "done" {
					t.Errorf("%s: %s %.100s", name, response.Status, body)
				}
			})
			<-arrived
		}
		for other, third := range clients {
			if response, body := fetch(t, third, "GET", "https://localhost/"); response.StatusCode != 429 || response.Header.Get("Retry-After") != "1" || !strings.Contains(body, "at the same time") {
				t.Errorf("%s beside %s: %s %.100s", other, name, response.Status, body)
			}
		}
		leave <- struct{}{}
		leave <- struct{}{}
		asking.Wait()

		// One after the other, each as soon as the one before has ended.
		for i := range 50 {
			if response, body := fetch(t, client, "GET", "https://localhost/"); response.StatusCode != 200 {
				t.Errorf("%s: request %d: %s %.100s", name, i, response.Status, body)
			}
		}
		for range 5 {
			fetch(t, client, "GET", "https://localhost/limited")
		}

		// Who leaves gives the place back.
		hasty := *client
		hasty.Timeout = 100 * time.Millisecond
		for range 4 {
			if response, err := hasty.Get("https://localhost/slow"); err == nil {
				response.Body.Close()
			}
		}
		for limit := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if response, _ := fetch(t, client, "GET", "https://localhost/"); response.StatusCode == 200 {
				break
			} else if time.Now().After(limit) {
				t.Fatalf("%s: %s", name, response.Status)
			}
		}
		for len(arrived) > 0 {
			<-arrived
		}
	}
}
