// Package servicetest runs the services that tests need, for real: Redis and PostgreSQL, each in a directory of its
// own.
//
//	redis := servicetest.StartRedis(t)
//	store, err := storage.Open(ctx, redis.URL, storage.Options{})
//	redis.Stop()
package servicetest

import (
	"cmp"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Service is a server that can be stopped and started again with what it had.
type Service struct {
	URL string

	t       testing.TB
	command func() *exec.Cmd
	alive   func() bool
	end     syscall.Signal // asks it to end; 0: SIGTERM
	running *exec.Cmd
	output  *Buffer
}

// Start starts the server and waits until it answers.
func (s *Service) Start() {
	s.t.Helper()
	s.output = &Buffer{}
	s.running = s.command()
	s.running.Stdout, s.running.Stderr = s.output, s.output
	if err := s.running.Start(); err != nil {
		s.t.Fatal(err)
	}

	for deadline := time.Now().Add(20 * time.Second); !s.alive(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			path := s.running.Path
			s.Stop()
			s.t.Fatalf("%s did not start:\n%s", path, s.output)
		}
	}
}

// Stop ends the server in order.
func (s *Service) Stop() { s.signal(cmp.Or(s.end, syscall.SIGTERM)) }

// stopWithin is how long a service may take to end.
const stopWithin = 30 * time.Second

// Pause freezes the server; its connections stay open. Resume goes on.
func (s *Service) Pause()  { s.all("-STOP") }
func (s *Service) Resume() { s.all("-CONT") }

// all signals the server and its children: PostgreSQL has one for each connection.
func (s *Service) all(signal string) {
	pid := strconv.Itoa(s.running.Process.Pid)
	_ = exec.Command("kill", signal, pid).Run()
	_ = exec.Command("pkill", signal, "-P", pid).Run()
}

func (s *Service) signal(signal os.Signal) {
	if s.running == nil {
		return
	}
	// A process that is stopped handles no signal before it goes on.
	s.Resume()
	_ = s.running.Process.Signal(signal)
	hangs := time.AfterFunc(stopWithin, func() { _ = s.running.Process.Kill() })
	_ = s.running.Wait()
	if !hangs.Stop() {
		s.t.Errorf("%s did not end within %s:\n%s", s.running.Path, stopWithin, s.output)
	}
	s.running = nil
}

// Need returns the path of a program. A test whose program is not installed is skipped, and says so; with CI=true it
// fails.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, program)
	}
	return path
}

func missing(t testing.TB, program string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed: run e2e/install.sh", program)
	}
	t.Skipf("skipped: needs %s, which e2e/install.sh installs", program)
}

func answers(port int) func() bool {
	return func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	}
}

// StartRedis needs redis-server. Further arguments are its options.
func StartRedis(t testing.TB, options ...string) *Service {
	t.Helper()
	program, port, dir := Need(t, "redis-server"), FreePort(t), t.TempDir()
	arguments := append([]string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--appendonly", "yes", "--save", ""}, options...)
	s := &Service{t: t, URL: "redis://127.0.0.1:" + strconv.Itoa(port), alive: answers(port)}
	s.command = func() *exec.Cmd { return exec.Command(program, arguments...) }
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// StartPostgres needs Debian's postgresql. Its server refuses to run as root, and takes the user that the package made.
func StartPostgres(t testing.TB) *Service {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		missing(t, "postgresql")
	}

	slices.Sort(found)
	bin, port := filepath.Dir(found[len(found)-1]), FreePort(t)
	dir, err := os.MkdirTemp("", "padlock-postgres-")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { os.RemoveAll(dir) })
	attributes := postgresUser(t, dir)
	as := func(name string, arguments ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(bin, name), arguments...)
		c.Dir, c.SysProcAttr = dir, attributes
		return c
	}

	data := filepath.Join(dir, "data")
	if out, err := as("initdb", "-D", data, "-U", "padlock", "-A", "trust", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}

	address := strconv.Itoa(port)
	// SIGINT is the fast shutdown of PostgreSQL, which does not wait for clients.
	s := &Service{t: t, URL: "postgres://padlock@127.0.0.1:" + address + "/postgres?sslmode=disable", end: syscall.SIGINT}
	s.alive = func() bool { return as("pg_isready", "-q", "-h", "127.0.0.1", "-p", address).Run() == nil }
	s.command = func() *exec.Cmd {
		return as("postgres", "-D", data, "-h", "127.0.0.1", "-p", address, "-k", dir, "-c", "fsync=off")
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// StartSentinel needs redis-server, which is a Sentinel too. It writes to its configuration.
func StartSentinel(t testing.TB, configuration string) *Service {
	t.Helper()
	program, port := Need(t, "redis-server"), FreePort(t)
	s := &Service{t: t, URL: "redis://127.0.0.1:" + strconv.Itoa(port), alive: answers(port)}
	s.command = func() *exec.Cmd {
		return exec.Command(program, configuration, "--sentinel", "--bind", "127.0.0.1", "--port", strconv.Itoa(port))
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// WaitForReplica returns when a Redis has a replica that has all it has.
func WaitForReplica(t testing.TB, master *Service) {
	t.Helper()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(master.URL, "redis://"))
	out, err := exec.Command(Need(t, "redis-cli"), "-p", port, "wait", "1", "20000").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "1" {
		t.Fatalf("no replica: %v\n%s", err, out)
	}
}

// WaitForSentinel returns when a Sentinel knows a replica of the master of that name which could take its place.
func WaitForSentinel(t testing.TB, sentinel *Service, name string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(sentinel.URL, "redis://"))
	program := Need(t, "redis-cli")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		out, err := exec.Command(program, "-p", port, "sentinel", "replicas", name).CombinedOutput()
		if text := string(out); err == nil && strings.Contains(text, "\nflags\nslave\n") && strings.Contains(text, "\nmaster-link-status\nok\n") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the Sentinel knows no replica: %v\n%s", err, out)
		}
	}
}

// Delayed forwards TCP to an address, and keeps every answer back for a while. It returns its own address.
func Delayed(t testing.TB, to string, pause time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}

			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}

			go func() { _, _ = io.Copy(server, client); server.Close() }()

			go func() {
				defer client.Close()
				b := make([]byte, 64<<10)
				for {
					n, err := server.Read(b)
					time.Sleep(pause)
					if _, failed := client.Write(b[:n]); err != nil || failed != nil {
						return
					}
				}
			}()
		}
	}()

	return l.Addr().String()
}
