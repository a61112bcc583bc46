// Command bench measures padlock beside nginx, HAProxy, Caddy and net/http's ReverseProxy, all in one run.
//
//	bash bench/install.sh && go run ./bench
//
// The proxy has one core, everything else another. What counts is the proxy's CPU time per request: unlike wall time
// it does not depend on what else the machine is doing. Runs are interleaved, and medians are compared.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			fail(role(os.Args[2:]))
			return
		}
	}

	var (
		servers   = flag.String("servers", "nginx,haproxy,net/http,caddy,padlock,padlock-quiet,padlock-logs", "what to measure, the first is 1")
		workloads = flag.String("workloads", "", "names of workloads; empty: all")
		rounds    = flag.Int("rounds", 3, "runs of each, interleaved")
		seconds   = flag.Int("seconds", 4, "length of a run")
		binary    = flag.String("padlock", "", "padlock's binary; empty: build it")
		base      = flag.String("base", "", "binary of another padlock, for the servers padlock-base and padlock-base-quiet: -servers padlock-base-quiet,padlock-quiet compares a change")
		write     = flag.String("write", "", "also write the table between the markers of this file")
		dir       = flag.String("dir", "", "keep the configurations and logs in this directory")
	)
	flag.Parse()
	if flag.NArg() > 0 {
		fail(fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{rounds: *rounds, length: time.Duration(*seconds) * time.Second, binary: *binary, base: *base, dir: *dir}
	report, err := b.run(ctx, strings.Split(*servers, ","), *workloads)
	fail(err)
	fmt.Println(report)
	if *write != "" {
		fail(insert(*write, report))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// roles are what this program is when it is called by itself.
var roles = map[string]func(args []string) error{"reverse-proxy": reverseProxy, "echo": echo, "grpc": grpcOrigin}

// bench is one run of everything.
type bench struct {
	rounds  int
	length  time.Duration
	binary  string
	base    string // another padlock's binary; "": none
	dir     string
	pair    *pair
	origins map[string]string // addresses of the backends, by setup
}

func (b *bench) run(ctx context.Context, names []string, only string) (string, error) {
	if runtime.NumCPU() < 2 {
		return "", fmt.Errorf("two cores are needed, one for the proxy and one for the rest")
	}

	if b.dir == "" {
		dir, err := os.MkdirTemp("", "padlock-bench")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(dir)
		b.dir = dir
	}

	if err := b.prepare(); err != nil {
		return "", err
	}

	origins, err := b.startOrigins()
	// With an error, too, come those that have started.
	defer stopAll(origins)
	if err != nil {
		return "", err
	}

	t := table{servers: names}
	for _, setup := range setups() {
		var chosen []workload
		for _, w := range allWorkloads {
			if w.setup == setup && (only == "" || slices.Contains(strings.Split(only, ","), w.name)) {
				chosen = append(chosen, w)
			}
		}

		if len(chosen) == 0 {
			continue
		}

		rows, err := b.measureAll(ctx, setup, chosen, names)
		if err != nil {
			return "", err
		}
		t.rows = append(t.rows, rows...)
	}

	return t.markdown(versions()), nil
}

// setups are those of the workloads, in their order.
func setups() (all []string) {
	for _, w := range allWorkloads {
		if !slices.Contains(all, w.setup) {
			all = append(all, w.setup)
		}
	}
	return all
}

// measureAll runs the workloads of one setup against the servers that have it.
func (b *bench) measureAll(ctx context.Context, setup string, chosen []workload, names []string) (rows []row, err error) {
	running := map[string]*process{}
	defer func() { stopAll(slices.Collect(maps.Values(running))) }()
	for _, name := range names {
		p, err := b.start(name, setup)
		if errors.Is(err, errNoSuchSetup) {
			continue
		}
		if err != nil {
			return nil, err
		}
		running[name] = p
	}

	for _, w := range chosen {
		row, err := b.measure(ctx, w, names, running)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, row)
	}

	return rows, nil
}

func stopAll(processes []*process) {
	for _, p := range processes {
		p.stop()
	}
}

// measure runs one workload against all servers, round by round.
func (b *bench) measure(ctx context.Context, w workload, names []string, running map[string]*process) (row, error) {
	r := row{workload: w, values: map[string][]float64{}}
	// Round by round, so that what disturbs the machine for a while disturbs all servers.
	for round := range b.rounds {
		for _, name := range names {
			if ctx.Err() != nil {
				return r, ctx.Err()
			}

			if running[name] == nil {
				continue
			}

			value, err := w.run(b, running[name])
			if errors.Is(err, errNoSuchSetup) {
				continue
			}
			if err != nil {
				return r, fmt.Errorf("%s: %w", name, err)
			}
			r.values[name] = append(r.values[name], value)
			fmt.Fprintf(os.Stderr, "%-12s round %d  %-14s %10.2f %s\n", w.name, round+1, name, value, w.unit)
		}
	}
	return r, nil
}

// versions says what was measured, and on what.
func versions() string {
	var lines []string
	for _, c := range [][]string{{"nginx", "-v"}, {"haproxy", "-v"}, {"caddy", "version"}} {
		// nginx writes its version to standard error.
		out, _ := exec.Command(c[0], c[1:]...).CombinedOutput()
		line, _, _ := strings.Cut(string(out), "\n")
		line = strings.TrimPrefix(line, "nginx version: ")
		if c[0] == "caddy" {
			line = "Caddy " + line
		}

		if line, _, ok := strings.Cut(line, " - https"); ok || line != "" {
			lines = append(lines, line)
		}
	}

	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}

	return fmt.Sprintf("%s, %s, on %d cores of %s, %s.", runtime.Version(), strings.Join(lines, ", "), runtime.NumCPU(), model, time.Now().UTC().Format(time.DateOnly))
}
