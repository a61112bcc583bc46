//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Logs that cannot be written, as on a full disk or by a pipe that nobody reads, keep nobody waiting: the operation log says so once, and the
// counter knows how much is lost. A device is not renamed when it has had as much as a file may have.
func TestALogThatCannotBeWrittenIsToldAndCounted(t *testing.T) {
	unread := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(unread, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]string{"full": "/dev/full", "pipe that nobody reads": unread} {
		t.Run(name, func(t *testing.T) {
			r := runFile(t, fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nadmin: 127.0.0.1:0\nstorage: STORAGE\n"+
				"access_log: {output: %[1]q}\nhandshakes: {output: %[1]q, format: line}\nsites: [{hosts: [localhost], routes: [{respond: {body: hello}}]}]\n", place))
			const visits = 5
			for range visits {
				client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: r.tls()}}
				request, _ := http.NewRequest("GET", "https://"+r.address, nil)
				request.Host = "localhost"
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				response.Body.Close()
				if string(body) != "hello" {
					t.Errorf("%q", body)
				}
			}
			until(t, func() error {
				m, _ := r.scrape(t)
				for _, queue := range []string{"access_log", "handshakes"} {
					if n := m.value("padlock_lost_total", "queue", queue); n != visits {
						return fmt.Errorf("%s: %v lost", queue, n)
					}
				}
				return nil
			})
			if said := r.stderr.String(); strings.Count(said, "a log cannot be written") != 2 || strings.Count(said, "output="+place) != 2 {
				t.Error(said)
			}
		})
	}
	if info, err := os.Stat("/dev/full"); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
