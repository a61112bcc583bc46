//go:build e2e

package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"padlock/internal/servicetest"
)

var testssl = flag.String("testssl", "testssl", "the testssl.sh to scan with: Debian's, or the path of a newer one")

// finding is one line of testssl.sh's flat JSON.
type finding struct{ ID, Severity, Finding string }

// Whoever scans padlock with testssl.sh finds nothing of medium severity or worse, a rating of A+, and all clients served that can
// speak TLS 1.2. The short form looks at protocols, the server's defaults and its fields only. The certificates come from a CA by ACME, one with an ECDSA key and one with RSA; the target's answers have
// the fields that a scanner looks for.
func TestTestsslFindsNothingToMend(t *testing.T) {
	works(t)
	scanner := need(t, *testssl)
	responder := servicetest.StartResponder(t)
	ca := startCA(t, servicetest.PebbleOptions{RSA: true, Responder: responder.URL})
	responder.For(ca.CA)
	file := acmeFile(t, ca.CA, t.TempDir(), "key_types: [p256, rsa2048]", "app.example.com")
	site, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	more := `
    hsts: {max_age: 8760h, include_subdomains: true, preload: true}
    headers: {response: {set: {X-Frame-Options: DENY, X-Content-Type-Options: nosniff, Content-Security-Policy: "default-src 'self'"}}}
    routes: [{respond: {status: 200, body: "hello\n", content_type: text/plain}}]
`
	if err := os.WriteFile(file, append(site, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	runFile(t, file)
	ca.issued(t, "app.example.com", nil)
	root, report := write(t, "root.pem", string(ca.IssuingRoot())), filepath.Join(t.TempDir(), "report.json")
	args := []string{"--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--openssl", need(t, "openssl"),
		"--add-ca", root, "--ip", "127.0.0.1", "--jsonfile", report}
	enough := 100 // findings
	if !*long {
		args, enough = append(args, "--protocols", "--server-defaults", "--headers"), 30
	}
	scan := exec.Command(scanner, append(args, "https://app.example.com:"+strconv.Itoa(ca.TLS))...)
	scan.Dir = t.TempDir()
	out, err := scan.CombinedOutput() // its status counts what it found
	text, readErr := os.ReadFile(report)
	var findings []finding
	if readErr != nil || json.Unmarshal(text, &findings) != nil || len(findings) < enough {
		t.Fatalf("%v, %v, %d findings:\n%s", err, readErr, len(findings), out)
	}
	counts := map[string]int{}
	for _, f := range findings {
		counts[f.Severity]++
		if !slices.Contains([]string{"OK", "INFO", "LOW"}, f.Severity) && !ofTheScanner[f.ID] || f.Severity == "LOW" && !accepted(f.ID) {
			t.Errorf("%s: %s: %s", f.Severity, f.ID, f.Finding)
		}
	}
	if !*long {
		return
	}
	rating := rate(t, findings)
	if rating != "A+" {
		t.Errorf("the rating is %s", rating)
	}
	served, all := simulated(t, findings)
	figure("testssl.sh", "%s, %d OK, %d low, none worse, %d of %d clients", rating, counts["OK"], counts["LOW"], served, all)
}

// ofTheScanner are warnings of testssl.sh about what it has itself to scan with.
var ofTheScanner = map[string]bool{"engine_problem": true, "QUIC": true}

// accepted are findings of low severity that stand, as docs/reliability.md says: the suites with CBC, which IE 11 needs where a site has
// an RSA certificate alone, and the lifetime that crypto/tls writes into tickets, whose keys are replaced daily all the same.
func accepted(id string) bool {
	return slices.Contains([]string{"cipherlist_AVERAGE", "cipherlist_OBSOLETED", "LUCKY13", "TLS_session_ticket"}, id) ||
		slices.Contains([]string{"xc009", "xc00a", "xc013", "xc014"}, strings.TrimPrefix(id, "cipher-tls1_2_"))
}

// simulated counts the clients that testssl.sh plays. The only ones that padlock may leave out are those that speak no TLS 1.2.
func simulated(t *testing.T, findings []finding) (served, all int) {
	outdated := map[string]bool{"clientsimulation-ie_6_xp": true, "clientsimulation-ie_8_xp": true, "clientsimulation-ie_8_win7": true, "clientsimulation-java_7u25": true}
	for _, f := range findings {
		if !strings.HasPrefix(f.ID, "clientsimulation-") {
			continue
		}
		all++
		switch {
		case !strings.Contains(f.Finding, "No connection"):
			served++
		case !outdated[f.ID]:
			t.Errorf("%s: %s", f.ID, f.Finding)
		}
	}
	if served < 31 {
		t.Errorf("%d of %d clients are served", served, all)
	}
	return served, all
}

// rate is SSL Labs' rating (SSL Server Rating Guide, 2009r), worked out from the findings, as Debian's testssl.sh gives none.
// A newer one does, and then both must agree.
func rate(t *testing.T, findings []finding) string {
	by := map[string]finding{}
	for _, f := range findings {
		by[f.ID] = f
	}
	rating := grade(by, score(findings))
	if own, ok := by["overall_grade"]; ok && own.Finding != rating {
		t.Errorf("testssl.sh rates %s, and not %s", own.Finding, rating)
	}
	return rating
}

// grade is A+ where nothing caps it, the score is an A's and HSTS lasts for half a year; what testssl.sh calls OK caps nothing.
func grade(by map[string]finding, score float64) string {
	for _, id := range []string{
		"SSLv2", "SSLv3", "TLS1_2", "TLS1_3", "cipherlist_NULL", "cipherlist_aNULL", "cipherlist_EXPORT", "cipherlist_LOW", "HSTS_time",
		"heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_renego", "CRIME_TLS", "POODLE_SSL", "fallback_SCSV", "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "RC4",
	} {
		if by[id].Severity != "OK" {
			return "less than A+, for " + id
		}
	}
	for _, id := range []string{"TLS1", "TLS1_1", "cipherlist_3DES_IDEA"} {
		if by[id].Finding != "not offered" {
			return "B at most, for " + id
		}
	}
	certificates := 0
	for id, f := range by {
		if strings.HasPrefix(id, "cert_trust") || strings.HasPrefix(id, "cert_chain_of_trust") {
			certificates++
			if f.Severity != "OK" {
				return "T, for " + id
			}
		}
	}
	if certificates != 4 {
		return "T, as both certificates were not seen"
	}
	if score < 80 {
		return fmt.Sprintf("less than A, for a score of %.0f", score)
	}
	return "A+"
}

var (
	offered = regexp.MustCompile(`^cipher[-_].*(x[0-9a-f]{4})$`)
	bits    = regexp.MustCompile(`(?:EC?DHE?) +([0-9]+) +[A-Za-z0-9]+ +([0-9]+) `)
	keySize = regexp.MustCompile(`^(RSA|EC) ([0-9]+) bits`)
)

// score is 30 % protocols (of TLS 1.2 and 1.3, 100), 30 % the weakest key in RSA's terms, and 40 % the mean of weakest and strongest cipher.
func score(findings []finding) float64 {
	key, weakest, strongest := 1<<20, 1<<20, 0
	for _, f := range findings {
		if m := keySize.FindStringSubmatch(f.Finding); strings.HasPrefix(f.ID, "cert_keySize") && m != nil {
			key = min(key, likeRSA(m[1], decimal(m[2])))
		}
		if m := bits.FindStringSubmatch(f.Finding); offered.MatchString(f.ID) && m != nil {
			key = min(key, likeRSA("EC", decimal(m[1])))
			weakest, strongest = min(weakest, decimal(m[2])), max(strongest, decimal(m[2]))
		}
	}
	exchange := 0.0
	switch {
	case key >= 4096:
		exchange = 100
	case key >= 2048:
		exchange = 90
	}
	return 0.3*100 + 0.3*exchange + 0.4*(strength(weakest)+strength(strongest))/2
}

// likeRSA is a key's size in RSA's terms (NIST SP 800-57 part 1, table 2).
func likeRSA(algorithm string, bits int) int {
	switch {
	case algorithm == "RSA":
		return bits
	case bits >= 384:
		return 7680
	case bits >= 253:
		return 3072
	}
	return 0
}

func strength(bits int) float64 {
	switch {
	case bits >= 256:
		return 100
	case bits >= 128:
		return 80
	}
	return 0
}

func decimal(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}
