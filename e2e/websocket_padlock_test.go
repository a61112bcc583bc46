//go:build e2e

package e2e

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// wsPadlock are cases with a padlock of their own, as they end it or change it.
var wsPadlock = map[string]func(*testing.T, string){
	"padlock's own end is told between two frames": func(t *testing.T, version string) {
		half, target := down(fin|opText, "a whole frame"), startTarget(t)
		p := startSockets(t, target.address, target.address, time.Minute)
		leaving := make(chan struct{})
		script := target.expect(t, "/raw/end", func(p *wsPeer) {
			p.accept()
			p.say(half[:7])
			<-leaving
			p.say(half[7:])
			p.hear(up(fin|opClose, status(1001, "")))
			p.end()
		})
		v := p.front(t, version).open(t, wsRequest{path: "/raw/end"})
		v.hear(half[:7])
		ended := make(chan error, 1)
		go func() { ended <- p.end(syscall.SIGTERM) }()
		closed(t, p.front(t, version).address)
		close(leaving)
		v.hear(append(half[7:], down(fin|opClose, status(1001, ""))...))
		v.say(up(fin|opClose, status(1001, "")))
		must(t, v.end())
		v.ended()
		v.close()
		script.wait()
		began := time.Now()
		if err := <-ended; err != nil || time.Since(began) > 30*time.Second {
			t.Errorf("the end took %s after the last WebSocket's: %v", time.Since(began), err)
		}
	},
	"padlock's own end waits for a client that does not go no longer than it may": func(t *testing.T, version string) {
		target := startTarget(t)
		p := startSockets(t, target.address, target.address, 5*time.Second)
		script := target.expect(t, "/raw/end", func(p *wsPeer) { p.accept(); p.say(down(fin|opText, "stay")); p.gone() })
		v := p.front(t, version).open(t, wsRequest{path: "/raw/end"})
		v.hear(down(fin|opText, "stay"))
		began := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- p.end(syscall.SIGTERM) }()
		v.hear(down(fin|opClose, status(1001, "")))
		v.ended()
		script.wait()
		if err := <-ended; err != nil || time.Since(began) > soon { // timeouts.idle does not hold for a WebSocket
			t.Errorf("the end took %s: %v", time.Since(began), err)
		}
	},
	"a reload closes nothing": func(t *testing.T, version string) {
		target := startTarget(t)
		p := startSockets(t, target.address, target.address, 5*time.Second)
		script := target.expect(t, "/raw/reload", func(p *wsPeer) {
			p.accept()
			p.hear(up(fin|opText, "still there?"))
			p.say(down(fin|opText, "yes"))
			p.end()
		})
		v := p.front(t, version).open(t, wsRequest{path: "/raw/reload"})
		if out, err := command(p.home, "reload").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		v.say(up(fin|opText, "still there?"))
		v.hear(down(fin|opText, "yes"))
		must(t, v.end())
		v.properly()
		v.close()
		script.wait()
	},
}

// closed waits until nobody listens at an address any more.
func closed(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("padlock still listens")
		}
	}
}
