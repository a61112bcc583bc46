//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// A volume that root owns is an error with the command that gives it to padlock. Pasted as it is, the same container starts.
func TestAVolumeOfRootIsMendedByTheCommandThatIsTold(t *testing.T) {
	besides(t)
	image := padlockImage(t)
	images(t, "busybox:latest")
	for what, data := range map[string]string{"a volume": volume(t), "a directory": t.TempDir()} {
		// An empty volume is given to the image's user by Docker itself.
		docker(t, "run", "--rm", "--user", "0", "-v", data+":/data", "busybox", "sh", "-c", "touch /data/before && chown -R 0:0 /data && chmod 755 /data")
		_, flags := published(t)
		c := runContainer(t, append(append([]string{"-v", data + ":/data"}, flags...), image)...)
		said := c.log.wait(t, "padlock: error:", "permission denied", "padlock: hint:")
		if code := c.exit(t); code != 1 {
			t.Errorf("%s: exit code %d", what, code)
		}
		command := regexp.MustCompile(`docker run --rm --user 0 .*`).FindString(said)
		if command == "" {
			t.Errorf("%s: no command:\n%s", what, said)
			continue
		}
		if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
			t.Errorf("%s: %s: %v\n%s", what, command, err, out)
			continue
		}
		docker(t, "start", c.name)
		c.healthy(t)
		docker(t, "rm", "-f", c.name)
		if !strings.Contains(data, "/") {
			continue
		}
		if err := os.Chown(data, 0, 0); err != nil { // for the end of the test
			t.Error(err)
		}
	}
}

// nobodysDNS is a DNS server that knows no name.
func nobodysDNS(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg)
		answer.SetRcode(q, dns.RcodeNameError)
		_ = w.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return pc.LocalAddr().String()
}

// The name of a target that does not exist is an error at the start and after a reload, and not "not listening yet". Where the engine knows
// a container of that name, or of one like it, the error says so.
func TestATargetsNameThatDoesNotExistIsAnError(t *testing.T) {
	besides(t, &labels)
	f := &fleet{image: appImage(t), label: ownName(), dir: t.TempDir()}
	f.network, _ = bridge(t)
	app := f.app(t, "")
	site := func(name string) string {
		return fmt.Sprintf("  - {hosts: [%s.test], routes: [{to: \"http://%s:8080\"}]}\n", strings.Split(name, ".")[0], name)
	}
	more := "resolvers: [\"" + nobodysDNS(t) + "\"]\n"
	f.configure(t, "", site(app.name+"s")+site("nobody.internal")+more)
	f.padlock = startFile(t, f.dir)
	f.stderr.wait(t, "the name of a target does not exist", "name="+app.name+"s", "did you mean "+app.name+"?", "name=nobody.internal")

	f.configure(t, "", site(app.name+"s")+site("nobody.internal")+site(app.name)+more)
	if out, err := command(f.home, "reload").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	said := f.stderr.wait(t, app.name+" is a container's name, which its networks alone know")
	if n := strings.Count(said, "name=nobody.internal"); n != 1 {
		t.Errorf("it was told %d times:\n%s", n, said)
	}
	if strings.Contains(said, "not listening yet") {
		t.Errorf("said:\n%s", said)
	}
}
