package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"padlock/internal/pemfile"
	"padlock/internal/regular"
)

// debianJava is the truststore of Debian's Java, into which a hook puts the system's roots. The hook takes out none
// of those that an administrator has added.
const debianJava = "/etc/ssl/certs/java/cacerts"

// storePassword is that of every Java's truststore: it keeps nothing secret.
const storePassword = "changeit"

// java is a truststore that every Java of the machine reads.
type java struct {
	root *x509.Certificate
	file string
}

func (j *java) Name() string { return "Java " + j.file }

// Trusted looks for the certificate itself: both of Java's formats have it in the file as it is.
func (j *java) Trusted() (bool, error) {
	data, err := regular.Named(j.file, pemfile.MaxFile)
	return bytes.Contains(data, j.root.Raw), err
}

func (j *java) Install() error {
	if trusted, err := j.Trusted(); err != nil || trusted {
		// The system's hook has added the certificate already.
		return err
	}

	f, err := os.CreateTemp("", "padlock-*.pem")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(pemfile.Encode(pemfile.Block{Type: "CERTIFICATE", Bytes: j.root.Raw}))
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	// The alias is made of the fingerprint, so that roots of several padlocks do not replace each other.
	_, err = j.change("-importcert", "-noprompt", "-trustcacerts", "-alias", "padlock-"+fmt.Sprintf("%x", sha256.Sum256(j.root.Raw))[:16], "-file", f.Name())
	return err
}

// Remove takes it out under whatever names it is there.
func (j *java) Remove() error {
	if trusted, err := j.Trusted(); err != nil || !trusted {
		return err
	}

	list, err := j.keytool(false, "-list")
	if err != nil {
		return err
	}

	// The system's hook and people add it under names of their own.
	for _, alias := range aliases(list, j.root) {
		if _, err := j.change("-delete", "-alias", alias); err != nil {
			return fmt.Errorf("%w; as root: keytool -delete -alias %s -keystore %s -storepass %s", err, alias, j.file, j.password())
		}
	}

	return nil
}

// aliases finds the names of a certificate in what keytool lists: a line for each entry, and one with its fingerprint.
func aliases(list []byte, root *x509.Certificate) (names []string) {
	sum := sha256.Sum256(root.Raw)
	fingerprint := strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
	entry := ""
	for line := range strings.Lines(string(list)) {
		if strings.Contains(line, fingerprint) {
			names = append(names, entry)
		}
		entry, _, _ = strings.Cut(line, ", ")
	}
	return names
}

// change runs keytool as root.
func (j *java) change(args ...string) (out []byte, err error) {
	err = privileged("changing the truststore of Java", func() error {
		out, err = j.keytool(os.Geteuid() != 0, args...)
		return err
	})
	return out, err
}

// ErrNoKeytool is the error where a truststore of Java can be read, and not changed.
var ErrNoKeytool = errors.New("keytool, by which the truststore of Java is changed, is not found")

func (j *java) keytool(sudo bool, args ...string) ([]byte, error) {
	program := keytool()
	if program == "" {
		return nil, ErrNoKeytool
	}
	// The language is fixed, as the output is read.
	line := append([]string{program, "-J-Duser.language=en", "-J-Duser.country=US"}, args...)
	line = append(line, "-keystore", j.file, "-storepass", j.password())
	if sudo {
		line = append([]string{"sudo", "--"}, line...)
	}

	command := exec.Command(line[0], line[1:]...)
	out, err := command.Output()
	if err != nil {
		// Which says on standard output what is wrong.
		err = fmt.Errorf("keytool %s: %s (%w)", args[0], strings.TrimSpace(string(out)), err)
	}

	return out, err
}

// keytool is that of JAVA_HOME, or the one that is found; "": there is none.
func keytool() string {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		return filepath.Join(home, "bin", "keytool")
	}
	if path, err := exec.LookPath("keytool"); err == nil {
		return path
	}
	found, _ := filepath.Glob("/usr/lib/jvm/*/bin/keytool") // the pattern is well formed
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

// password is what Debian's hook uses.
func (j *java) password() string {
	settings, err := regular.Named("/etc/default/cacerts", pemfile.MaxFile)
	if err != nil {
		return storePassword
	}
	for line := range strings.Lines(string(settings)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "storepass="); ok && strings.Trim(value, `"'`) != "" {
			return strings.Trim(value, `"'`)
		}
	}
	return storePassword
}
