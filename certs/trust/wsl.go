package trust

import (
	"crypto/sha1" // names a certificate here, as Windows does; nothing is trusted because of it
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"padlock/internal/invoker"
)

// windows is the root store of the Windows user that WSL runs for, by Windows' own certutil.exe, which asks the user
// in a window.
type windows struct {
	root *x509.Certificate
	user *invoker.User
}

const certutilEXE = "certutil.exe"

// reachesWindows reports whether this is a Linux in Windows that may run Windows' programs.
func reachesWindows() bool {
	version, err := os.ReadFile("/proc/version")
	return err == nil && strings.Contains(strings.ToLower(string(version)), "microsoft") && installed([]string{certutilEXE})
}

func (w *windows) Name() string { return "Windows" }

func (w *windows) thumbprint() string { return fmt.Sprintf("%x", sha1.Sum(w.root.Raw)) }

func (w *windows) Install() error {
	f, err := os.CreateTemp("", "padlock-*.crt")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(w.root.Raw)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}

	path, err := exec.Command("wslpath", "-w", f.Name()).Output()
	if err != nil {
		return fmt.Errorf("naming %s for Windows by wslpath: %w", f.Name(), err)
	}

	return w.certutil("-addstore", "Root", strings.TrimSpace(string(path)))
}

func (w *windows) Remove() error {
	if trusted, err := w.Trusted(); err != nil || !trusted {
		return err
	}
	return w.certutil("-delstore", "Root", w.thumbprint())
}

// Trusted asks by thumbprint. certutil.exe fails where there is no such certificate.
func (w *windows) Trusted() (bool, error) {
	err := w.certutil("-store", "Root", w.thumbprint())
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return false, nil
	}
	return err == nil, err
}

func (w *windows) certutil(args ...string) error {
	command := exec.Command(certutilEXE, append([]string{"-user"}, args...)...)
	w.user.Runs(command)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %s (%w)", certutilEXE, args[0], strings.TrimSpace(string(out)), err)
	}
	return nil
}
