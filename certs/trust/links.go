package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// linked is where Debian keeps a link to each certificate of the system, and one named by its hash to that. When a
// certificate is removed, update-ca-certificates leaves both until it adds another.
const linked = "/etc/ssl/certs"

// orphans are the links to a root in a directory that lead nowhere.
func orphans(dir string, root *x509.Certificate) (links []string) {
	// The name is the one that truststore gives the file when it installs the root.
	name := strings.ReplaceAll(root.Subject.CommonName+" "+root.SerialNumber.String(), " ", "_")
	entries, _ := os.ReadDir(dir) // no other system has it
	for _, entry := range entries {
		if entry.Type() != fs.ModeSymlink {
			continue
		}

		link := filepath.Join(dir, entry.Name())
		target, err := os.Readlink(link)
		if err != nil || strings.TrimSuffix(filepath.Base(target), filepath.Ext(target)) != name {
			continue
		}
		if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
			links = append(links, link)
		}
	}
	return links
}

// removeLinks removes files that belong to root.
func removeLinks(links []string) error {
	if len(links) == 0 {
		return nil
	}

	if os.Geteuid() == 0 {
		var errs []error
		for _, link := range links {
			// Another update may have removed the link meanwhile.
			if err := os.Remove(link); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}

	if out, err := exec.Command("sudo", append([]string{"--", "rm", "-f"}, links...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("removing %s: %w: %s", strings.Join(links, " "), err, out)
	}
	return nil
}
