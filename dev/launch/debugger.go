package launch

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"padlock/internal/lazy"
)

// debuggers are ports on which tools listen for a debugger by default, and not for browsers.
var debuggers = []uint16{9229, 9230, 5678, 35729}

// debuggerFlags are how commands choose another port for a debugger: those of Node.js, Deno and Bun; of Java; of
// Python's debugpy and Go's Delve; of Ruby's rdbg.
var debuggerFlags = []func() *regexp.Regexp{
	lazy.Regexp(`--inspect(?:-brk|-wait|-port)?=(?:\S*:)?(\d+)`),
	lazy.Regexp(`-(?:agentlib:jdwp=|Xrunjdwp:)\S*\baddress=(?:[^\s,]*:)?(\d+)`),
	lazy.Regexp(`\b(?:debugpy|dlv)\b.*? (?:--listen|-l)[= ](?:\S*:)?(\d+)`),
	lazy.Regexp(`\brdbg\b.*? --port[= ](\d+)`),
}

// debugPorts are those on which a command, as described, listens for a debugger.
func debugPorts(command string) (ports []uint16) {
	for _, flag := range debuggerFlags {
		for _, found := range flag().FindAllStringSubmatch(command, -1) {
			if port, err := strconv.ParseUint(found[1], 10, 16); err == nil {
				ports = append(ports, uint16(port))
			}
		}
	}
	return ports
}

// optionVariables hold further arguments of the program that finds them in its environment.
var optionVariables = []string{"NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"}

// described is a command as debugPorts reads it: its arguments, and those that its environment adds.
func described(args, env []string) string {
	lines := []string{strings.Join(args, " ")}
	for _, pair := range env {
		if name, value, _ := strings.Cut(pair, "="); slices.Contains(optionVariables, name) {
			lines = append(lines, value)
		}
	}
	return strings.Join(lines, "\n")
}
