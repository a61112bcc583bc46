package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// permissive are the licences that ask for no more than their notice.
var permissive = []string{"MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Apache-2.0", "CC0-1.0", "0BSD", "Unlicense", "Zlib"}

// unchanged are modules under the MPL 2.0, which asks that whoever gets the program can get the source of these files
// too (section 3.2). They are linked unchanged, and THIRD-PARTY says where from. Another module of this kind has to
// be looked at by a person first.
var unchanged = []string{
	"github.com/hashicorp/errwrap",
	"github.com/hashicorp/go-multierror",
	"github.com/hashicorp/go-uuid",
	"github.com/nrdcg/porkbun",
}

const mozilla = "MPL-2.0"

// enough of a file must be the text of licences that are known, in percent; the rest is names and years.
const enough = 75

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense|notice)(\.|-|$)`)

// findLicences reads the licences of all modules. What cannot be used is reported of all together.
func (b *binary) findLicences() error {
	var wrong []error
	for _, m := range b.modules {
		if err := m.findLicences(); err != nil {
			wrong = append(wrong, fmt.Errorf("%s %s: %w", m.Path, m.Version, err))
		}
	}
	return errors.Join(wrong...)
}

func (m *module) findLicences() error {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return err
	}

	for _, e := range entries {
		if !licenceFile.MatchString(e.Name()) || !e.Type().IsRegular() {
			continue
		}

		text, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
		if err != nil {
			return err
		}
		m.files = append(m.files, file{e.Name(), text})
		m.recognise(text)
	}

	if len(m.ids) == 0 {
		return fmt.Errorf("there is no licence that is known in %s: look for one, and do without the module if there is none", m.Dir)
	}

	for _, id := range m.ids {
		if !slices.Contains(permissive, id) && !(id == mozilla && slices.Contains(unchanged, m.Path)) {
			return fmt.Errorf("the licence %s is not one of those that may be linked: do without the module", id)
		}
	}

	return nil
}

func (m *module) recognise(text []byte) {
	found := licensecheck.Scan(text)
	if found.Percent < enough {
		return
	}
	for _, match := range found.Match {
		if !slices.Contains(m.ids, match.ID) {
			m.ids = append(m.ids, match.ID)
		}
	}
}

// thirdParty is what the licences ask to be passed on with the program.
func (b *binary) thirdParty() []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "%s is linked of the Go standard library and %d modules. Their licences:\n", b.name, len(b.modules)-1)
	for _, m := range b.modules {
		fmt.Fprintf(&out, "\n%s\n%s %s (%s)\n", strings.Repeat("=", 80), m.Path, m.Version, strings.Join(m.ids, ", "))
		if slices.Contains(m.ids, mozilla) {
			fmt.Fprintf(&out, "Source, unchanged: the Go module %s, version %s\n", m.Path, m.Version)
		}
		for _, f := range m.files {
			fmt.Fprintf(&out, "\n--- %s\n\n%s\n", f.name, strings.TrimSpace(string(f.text)))
		}
	}
	return []byte(out.String())
}
