//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// screen is a terminal in which a shell runs.
type screen struct{ socket string }

func (s screen) tmux(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", s.socket}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("tmux %v: %v %s", args, err, out)
	}
	return string(out)
}

// shows waits until a text stands on the screen.
func (s screen) shows(t *testing.T, want string) {
	t.Helper()
	eventually(t, func() (string, error) {
		now := s.tmux(t, "capture-pane", "-p")
		if !strings.Contains(now, want) {
			return now, fmt.Errorf("%q is not on the screen", want)
		}
		return now, nil
	})
}

// In a real bash, zsh and fish the Tab key completes commands, flags, their values in both forms, and files.
func TestShellsComplete(t *testing.T) {
	besides(t)
	need(t, "tmux")
	bin := t.TempDir()
	if err := os.Symlink(plain, filepath.Join(bin, "padlock")); err != nil {
		t.Fatal(err)
	}
	path := bin + ":" + os.Getenv("PATH")
	for _, shell := range []struct {
		name, file, setup string
		args              []string
	}{
		{"bash", ".rc", "PS1='ready> '\nsource <(padlock completion bash)\n", []string{"--noprofile", "--rcfile", ".rc", "-i"}},
		{"zsh", ".zshrc", "PS1='ready> '\nautoload -Uz compinit && compinit -u\nsource <(padlock completion zsh)\n", []string{"-i"}},
		{"fish", ".config/fish/config.fish", "function fish_prompt; echo 'ready> '; end\nset -g fish_autosuggestion_enabled 0\npadlock completion fish | source\n", []string{"-i"}},
	} {
		t.Run(shell.name, func(t *testing.T) {
			need(t, shell.name)
			home := t.TempDir()
			for name, content := range map[string]string{shell.file: shell.setup, "shop-padlock.yaml": "", "shop-padlock.pem": ""} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			// Where this is missing, fish makes it in the background, and may not be done when the test is.
			if err := os.MkdirAll(filepath.Join(home, ".local/share/fish/generated_completions"), 0o700); err != nil {
				t.Fatal(err)
			}
			dir, err := os.MkdirTemp("", "padlock") // t.TempDir may be longer than a socket's path
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			s := screen{filepath.Join(dir, "tmux")}
			command := append([]string{"env", "HOME=" + home, "ZDOTDIR=" + home, "XDG_CONFIG_HOME=" + home + "/.config", "PATH=" + path, shell.name}, shell.args...)
			s.tmux(t, append([]string{"-f", "/dev/null", "new-session", "-d", "-x", "160", "-y", "50", "-c", home}, command...)...)
			defer s.tmux(t, "kill-server")
			s.shows(t, "ready>")
			for _, c := range []struct{ typed, want string }{
				{"padlock certs ren", "padlock certs renew"},
				{"padlock --handshakes fa", "padlock --handshakes failures"},
				{"padlock 3000 --handshakes=fa", "padlock 3000 --handshakes=failures"},
				{"padlock run --conf", "padlock run --config"},
				{"padlock run --config shop", "padlock run --config shop-padlock."},
				{"padlock check --config=shop-padlock.y", "padlock check --config=shop-padlock.yaml"},
			} {
				s.tmux(t, "send-keys", "-l", c.typed)
				s.shows(t, c.typed)
				s.tmux(t, "send-keys", "Tab")
				s.shows(t, c.want)
				s.tmux(t, "send-keys", "C-u")
			}
			// With several that fit, they are shown.
			s.tmux(t, "send-keys", "-l", "padlock watch --outcome ")
			s.tmux(t, "send-keys", "Tab", "Tab")
			s.shows(t, "not_tls")
			s.shows(t, "silent")
		})
	}
}

// The manual page is one that man, groff and mandoc find nothing wrong with.
func TestTheManualPageIsWellFormed(t *testing.T) {
	besides(t)
	text, err := command(t.TempDir(), "man").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "padlock.1")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"mandoc", "-T", "lint", file},
		{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", file},
		{"groff", "-man", "-ww", "-Tutf8", "-z", file},
	} {
		run := exec.Command(need(t, c[0]), c[1:]...)
		var said strings.Builder
		run.Stderr = &said
		if c[0] == "mandoc" { // its findings are its output
			run.Stdout = &said
		}
		if err := run.Run(); err != nil || said.Len() > 0 {
			t.Errorf("%v: %v\n%s", c, err, said.String())
		}
	}
}
