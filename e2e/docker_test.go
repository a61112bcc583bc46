//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// docker runs the client, and returns what it says on standard output.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := dockerTry(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func dockerTry(args ...string) (string, error) {
	c := exec.Command("docker", args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String()), nil
}

var making sync.Mutex

// images has stand-ins made for the images that are named, where they are not there.
func images(t *testing.T, names ...string) {
	t.Helper()
	need(t, "docker")
	if err := makeImages(names...); err != nil {
		t.Fatal(err)
	}
}

func makeImages(names ...string) error {
	making.Lock() // tests that need the same one have it made once
	defer making.Unlock()
	if out, err := exec.Command("bash", append([]string{"images.sh"}, names...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("images.sh %s: %w\n%s", strings.Join(names, " "), err, out)
	}
	return nil
}

const imageVersion, imageRevision = "1.2.3-test", "0123456789abcdef"

// buildImage builds the Dockerfile as it is, once, on stand-ins for the images that it names.
var buildImage = sync.OnceValue(func() error {
	file, err := os.ReadFile("../Dockerfile")
	if err != nil {
		return err
	}
	var bases []string
	for _, from := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(file), -1) {
		bases = append(bases, from[1])
	}
	if err := makeImages(bases...); err != nil {
		return err
	}
	c := exec.Command("docker", "build", "--force-rm", "-t", "padlock", "--build-arg", "VERSION="+imageVersion, "--build-arg", "REVISION="+imageRevision, "..")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("docker build: %w\n%s", err, out)
	}
	// What earlier builds have left, and nobody else's.
	_, err = dockerTry("image", "prune", "-f", "--filter", "label=e2e.stand-in", "--filter", "until=3h")
	return err
})

// padlockImage is the name of padlock's image, which is built of this tree.
func padlockImage(t *testing.T) string {
	t.Helper()
	need(t, "docker")
	began := time.Now()
	if err := buildImage(); err != nil {
		t.Fatal(err)
	}
	t.Logf("the image is there after %s", time.Since(began).Round(time.Second))
	return "padlock"
}

var counted atomic.Int64

// ownName is a name for a container, a network or a volume that no other test has.
func ownName() string { return fmt.Sprintf("padlock-e2e-%d-%d", os.Getpid(), counted.Add(1)) }

// bridge makes a network, and returns the address that this machine has on it.
func bridge(t *testing.T) (name, gateway string) {
	t.Helper()
	name = ownName()
	docker(t, "network", "create", name)
	t.Cleanup(func() { docker(t, "network", "rm", name) })
	return name, docker(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", name)
}

func volume(t *testing.T) string {
	t.Helper()
	name := docker(t, "volume", "create", ownName())
	t.Cleanup(func() { docker(t, "volume", "rm", name) })
	return name
}

// container is one that runs, or has run.
type container struct {
	name string
	log  *log
}

// runContainer starts one; args are those of docker run, from the flags on.
func runContainer(t *testing.T, args ...string) *container {
	t.Helper()
	c := &container{ownName(), &log{more: make(chan struct{})}}
	t.Cleanup(func() { _, _ = dockerTry("rm", "-fv", c.name) })
	docker(t, append([]string{"run", "-d", "--name", c.name}, args...)...)
	follow := exec.Command("docker", "logs", "-f", c.name)
	follow.Stdout, follow.Stderr = c.log, c.log
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = follow.Process.Kill(); _ = follow.Wait() })
	return c
}

func (c *container) signal(t *testing.T, name string) {
	t.Helper()
	docker(t, "kill", "-s", name, c.name)
}

// exit waits for the end, and returns the exit code.
func (c *container) exit(t *testing.T) int {
	t.Helper()
	code, err := strconv.Atoi(docker(t, "wait", c.name))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// healthy waits until the image's own health check says so.
func (c *container) healthy(t *testing.T) {
	t.Helper()
	eventually(t, func() (string, error) {
		state, err := dockerTry("inspect", "-f", "{{.State.Health.Status}} {{json .State.Health.Log}}", c.name)
		if err == nil && !strings.HasPrefix(state, "healthy ") {
			err = errors.New("not healthy")
		}
		return state, err
	})
}

// ended runs a container to its end, and returns its exit code and what it said.
func ended(t *testing.T, args ...string) (int, string) {
	t.Helper()
	out, err := exec.Command("docker", append([]string{"run", "--rm"}, args...)...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), string(out)
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, string(out)
}
