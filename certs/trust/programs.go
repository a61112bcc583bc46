package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"padlock/internal/invoker"
	"padlock/internal/pemfile"
)

// Variable is one of the environment, by which a program with a store of its own takes a root.
type Variable struct{ Name, Value, For string }

// Programs writes what programs with stores of their own need into a directory, and returns the variables that name
// it. Some of them take the place of the system's roots, so their file holds those as well. Where the system's are
// not found, those variables are left out, and err says so.
func Programs(root *x509.Certificate, dir string) (variables []Variable, err error) {
	if err := invoker.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}

	own := pemfile.Encode(pemfile.Block{Type: "CERTIFICATE", Bytes: root.Raw})
	alone, both := filepath.Join(dir, "root.pem"), filepath.Join(dir, "bundle.pem")
	if err := write(alone, own); err != nil {
		return nil, err
	}

	// These two add to the system's roots, and need the root alone.
	variables = []Variable{{"NODE_EXTRA_CA_CERTS", alone, "Node.js"}, {"DENO_CERT", alone, "Deno"}}

	system, err := systemRoots()
	if err != nil {
		return variables, err
	}
	if err := write(both, append(append(bytes.TrimRight(system, "\n"), '\n'), own...)); err != nil {
		return nil, err
	}

	return append(variables,
		Variable{"SSL_CERT_FILE", both, "OpenSSL, Python, Ruby, Go, PHP"}, Variable{"REQUESTS_CA_BUNDLE", both, "Python's requests"},
		Variable{"CURL_CA_BUNDLE", both, "curl"}, Variable{"GIT_SSL_CAINFO", both, "git"}, Variable{"AWS_CA_BUNDLE", both, "the AWS command line"},
	), nil
}

// Beside has variables that are set already keep what they name: such a variable leads to a file of its own that holds
// both.
func Beside(variables []Variable, getenv func(string) string, root *x509.Certificate, dir string) ([]Variable, error) {
	combined := slices.Clone(variables)
	for i, v := range combined {
		before, err := os.ReadFile(getenv(v.Name))
		// The variable is not set, or leads nowhere.
		if err != nil {
			continue
		}

		both := filepath.Join(dir, strings.ToLower(v.Name)+".pem")
		own := pemfile.Encode(pemfile.Block{Type: "CERTIFICATE", Bytes: root.Raw})
		if err := write(both, append(append(bytes.TrimRight(before, "\n"), '\n'), own...)); err != nil {
			return nil, err
		}

		combined[i].Value = both
	}
	return combined, nil
}

// ErrNoSystemRoots is the error where the system's roots are in no file.
var ErrNoSystemRoots = errors.New("the system's roots are in no file that is known, so there are no variables for programs that would need them beside this root")

func systemRoots() ([]byte, error) {
	for _, file := range bundles {
		if data, err := os.ReadFile(file); err == nil {
			return data, nil
		}
	}
	if runtime.GOOS == "darwin" {
		out, err := exec.Command("security", "find-certificate", "-a", "-p", "/System/Library/Keychains/SystemRootCertificates.keychain").Output()
		if err == nil && len(out) > 0 {
			return out, nil
		}
	}
	return nil, ErrNoSystemRoots
}

// Java puts the root into a copy of the truststore of the Java that is installed, and returns the variable that every
// Java heeds.
func Java(root *x509.Certificate, dir string) (Variable, error) {
	keytool := keytool()
	if keytool == "" {
		return Variable{}, ErrNoKeytool
	}
	theirs, err := javaRoots(keytool)
	if err != nil {
		return Variable{}, err
	}

	if err := invoker.MkdirAll(dir, 0o700); err != nil {
		return Variable{}, err
	}

	// keytool changes a file in place. A Java that starts meanwhile must find a whole one.
	certificate, aside, copied := filepath.Join(dir, "root.pem"), filepath.Join(dir, "cacerts.new"), filepath.Join(dir, "cacerts")
	if err := errors.Join(write(certificate, pemfile.Encode(pemfile.Block{Type: "CERTIFICATE", Bytes: root.Raw})), write(aside, theirs)); err != nil {
		return Variable{}, err
	}
	defer os.Remove(aside)

	command := exec.Command(keytool, "-importcert", "-noprompt", "-trustcacerts", "-alias", "padlock-local-ca", "-file", certificate, "-keystore", aside, "-storepass", storePassword)
	if out, err := command.CombinedOutput(); err != nil {
		return Variable{}, fmt.Errorf("%s: %s (%w)", keytool, strings.TrimSpace(string(out)), err)
	}

	changed, err := os.ReadFile(aside)
	if err == nil {
		err = write(copied, changed)
	}

	return Variable{"JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore=" + copied + " -Djavax.net.ssl.trustStorePassword=" + storePassword, "Java"}, err
}

// javaRoots finds the truststore beside the keytool, wherever links lead.
func javaRoots(keytool string) ([]byte, error) {
	real, err := filepath.EvalSymlinks(keytool)
	if err != nil {
		return nil, err
	}
	// Distributions link through /etc/alternatives.
	home := filepath.Dir(filepath.Dir(real))
	for _, below := range []string{"lib/security/cacerts", "jre/lib/security/cacerts", "../lib/security/cacerts"} {
		if data, err := os.ReadFile(filepath.Join(home, below)); err == nil {
			return data, nil
		}
	}
	return nil, fmt.Errorf("no truststore of Java (lib/security/cacerts) is below %s: set JAVA_HOME", home)
}

// write puts a file in place whole. There is nothing secret in it.
func write(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, invoker.GiveIn(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
