//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// logrotate moves log files away and says so by SIGUSR1, SIGHUP or padlock reload, or copies and truncates them: under load, every request
// stands in one of the files, and what comes after stands in the new one.
func TestLogrotateLosesNoLine(t *testing.T) {
	works(t)
	logrotate := need(t, "logrotate")
	for name, how := range map[string]string{
		"SIGUSR1":       "postrotate\n  kill -USR1 PID\n endscript",
		"SIGHUP":        "postrotate\n  kill -HUP PID\n endscript",
		"reload":        "postrotate\n  HOME=HOME_DIR XDG_DATA_HOME= PROGRAM reload >/dev/null\n endscript",
		"broken reload": "postrotate\n  echo nonsense: >>FILE; kill -HUP PID\n endscript",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			access, handshakes := filepath.Join(dir, "access.log"), filepath.Join(dir, "handshakes.log")
			file := filepath.Join(dir, "padlock.yaml")
			text := fmt.Sprintf("listen: {https: [\"127.0.0.1:0\"], http: []}\nhandshakes: {output: %s, format: json, sample: 1}\naccess_log: {output: %s}\nsites:\n  - hosts: [localhost]\n    routes: [{respond: {body: x}}]\n", handshakes, access)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			p := startFile(t, dir)

			script := strings.NewReplacer("PID", fmt.Sprint(p.pid), "HOME_DIR", p.home, "PROGRAM", binary, "FILE", file).Replace(how)
			rotation := filepath.Join(dir, "rotation")
			if err := os.WriteFile(rotation, fmt.Appendf(nil, "%s %s {\n su root root\n rotate 20\n create 0644\n sharedscripts\n %s\n}\n", access, handshakes, script), 0o644); err != nil {
				t.Fatal(err)
			}

			var requests atomic.Int64
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
			ask := func() {
				response, err := client.Get(fmt.Sprintf("%s/?n=%d", p.url, requests.Add(1)))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					default:
						ask()
					}
				}
			}()
			const times = 3
			for i := range times {
				before := requests.Load()
				for requests.Load() < before+20 {
					ask()
				}
				out, err := exec.Command(logrotate, "--force", "--state", filepath.Join(dir, "state"), rotation).CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				waitTimes(t, p.stderr, 2*(i+1), "log file reopened")
			}
			close(stop)
			<-stopped
			p.stop(t)

			for _, log := range []string{access, handshakes} {
				files, err := filepath.Glob(log + "*")
				if err != nil || len(files) != times+1 {
					t.Fatalf("%v %v", files, err)
				}
				var all []byte
				for _, f := range files {
					data, err := os.ReadFile(f)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, data...)
				}
				if got := bytes.Count(all, []byte("\n")); got < int(requests.Load()) || bytes.Contains(all, []byte{0}) {
					t.Errorf("%s: %d lines of %d requests", log, got, requests.Load())
				}
				for n := range requests.Load() {
					if log == access && !bytes.Contains(all, fmt.Appendf(nil, `/?n=%d"`, n+1)) {
						t.Fatalf("request %d is in no file", n+1)
					}
				}
			}
		})
	}

	t.Run("a signal without a log file changes nothing", func(t *testing.T) {
		p := start(t)
		if err := syscall.Kill(p.pid, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
		for range 3 {
			response, err := client.Get(p.url)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
		}
	})
}

// waitTimes waits until a log has some words so many times.
func waitTimes(t *testing.T, l *log, times int, words string) {
	t.Helper()
	timeout := time.After(90 * time.Second)
	for {
		l.mu.Lock()
		text, more := l.text.String(), l.more
		l.mu.Unlock()
		if strings.Count(text, words) >= times {
			return
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("%q was not said %d times in:\n%s", words, times, text)
		}
	}
}
