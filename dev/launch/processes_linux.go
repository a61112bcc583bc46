package launch

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// process is what the kernel shows of one (proc_pid_stat(5)).
type process struct {
	pid, parent, group, session int
	ended                       bool // and its parent has not asked for its exit code
}

// processes are all that this one sees.
func processes() (all []process) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}

		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}

		// The name of the program, in parentheses, may hold anything.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 4 {
			continue
		}
		p := process{pid: pid, ended: fields[0] == "Z" || fields[0] == "X"}
		p.parent, _ = strconv.Atoi(fields[1])
		p.group, _ = strconv.Atoi(fields[2])
		p.session, _ = strconv.Atoi(fields[3])
		all = append(all, p)
	}
	return all
}

// commandOf describes the command that a process runs, for debugPorts; "": it has ended.
func commandOf(pid int) string {
	return described(procStrings(pid, "cmdline"), procStrings(pid, "environ"))
}

// procStrings reads a file of a process that holds strings with a zero behind each (proc_pid_cmdline(5)).
func procStrings(pid int, file string) []string {
	// Another user's process does not show its environment.
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
	return strings.Split(string(text), "\x00")
}

// groupRuns reports whether a process of a group runs. In a container, nobody may ask for the exit codes of those that
// have ended.
func groupRuns(group int) bool {
	return slices.ContainsFunc(processes(), func(p process) bool { return p.group == group && !p.ended })
}
