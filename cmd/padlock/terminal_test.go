package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// The help of every command fits a terminal, and loses no word.
func TestTheHelpFitsTheTerminal(t *testing.T) {
	var commands [][]string
	commands = append(commands, nil)
	for _, c := range newApp(nil, nil, nil).Commands {
		if c.Hidden {
			continue
		}
		commands = append(commands, []string{c.Name})
		for _, sub := range c.Subcommands {
			commands = append(commands, []string{c.Name, sub.Name})
		}
	}
	for _, command := range commands {
		var out, stderr bytes.Buffer
		if code := run(t.Context(), append(command, "--help"), nil, &out, &stderr); code != 0 {
			t.Fatalf("%v: %d\n%s", command, code, &stderr)
		}
		for line := range strings.Lines(out.String()) { // it goes to no terminal
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > usualWidth && len(strings.Fields(line)) > 1 {
				t.Errorf("%v: %d columns: %s", command, n, line)
			}
		}
		for _, width := range []int{60, 80, 120} {
			text := fitted(out.String(), width)
			if got, want := strings.Fields(text), strings.Fields(out.String()); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%v: at %d columns the help has other words:\n%s", command, width, text)
			}
			for line := range strings.Lines(text) {
				words := strings.Fields(line)
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width && len(words) > 1 {
					t.Errorf("%v: %d columns, not %d: %s", command, n, width, line)
				}
			}
		}
	}
}

// What people type first, or wrongly, leads on.
func TestFamiliarAndMistypedCommands(t *testing.T) {
	for _, test := range []struct {
		args string
		code int
		says string
	}{
		{"--version", 0, "padlock dev"},
		{"-v", 0, "padlock dev"},
		{"help", 0, "COMMANDS:"},
		{"help trust", 0, "padlock trust - "},
		{"help certs list", 0, "padlock certs list - "},
		{"trsut", 2, "did you mean padlock trust?"},
		{"runn --config padlock.yaml", 2, "did you mean padlock run?"},
		{"certs lst", 2, "did you mean padlock certs list?"},
		{"run --confg padlock.yaml", 2, "did you mean --config?"},
		{"3000 --lisen :443", 2, "did you mean --listen?"},
		{"--nothing-like-it", 2, "padlock --help shows"},
	} {
		var out bytes.Buffer
		if code := run(t.Context(), strings.Fields(test.args), strings.NewReader(""), &out, &out); code != test.code || !strings.Contains(out.String(), test.says) {
			t.Errorf("padlock %s: %d\n%s", test.args, code, &out)
		}
	}
}
