package certs

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// Metrics writes how each certificate is, in the text format of Prometheus. Names on demand, of which there may be any number, are
// counted; only those in trouble are named.
func (m *Manager) Metrics(out io.Writer) {
	w := bufio.NewWriter(out)
	defer w.Flush()
	var all []Status
	onDemand := 0
	for _, s := range m.Status() {
		if s.OnDemand {
			onDemand++
		}
		if !s.OnDemand || s.Expiring {
			all = append(all, s)
		}
	}
	gauge := func(name, help string, value func(Status) (string, bool)) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for _, s := range all {
			if v, ok := value(s); ok {
				fmt.Fprintf(w, "%s{name=\"%s\",key_type=\"%s\",issuer=\"%s\"} %s\n", name, label(s.Name), label(s.KeyType), label(s.Issuer), v)
			}
		}
	}
	at := func(t *time.Time) (string, bool) {
		if t == nil {
			return "", false
		}
		return fmt.Sprint(t.Unix()), true
	}
	flag := func(b bool) (string, bool) {
		if b {
			return "1", true
		}
		return "0", true
	}
	gauge("padlock_certificate_not_after_seconds", "When the certificate expires, as Unix time.", func(s Status) (string, bool) { return at(s.NotAfter) })
	gauge("padlock_certificate_renewal_seconds", "When its renewal is due, as Unix time.", func(s Status) (string, bool) { return at(s.Renewal) })
	gauge("padlock_certificate_failing", "1 while the last look at the certificate ended in an error.", func(s Status) (string, bool) { return flag(s.Error != "") })
	gauge("padlock_certificate_expiring", "1 when it has expired, or is in its last third and cannot be renewed.", func(s Status) (string, bool) { return flag(s.Expiring) })
	fmt.Fprintf(w, "# HELP padlock_certificates_on_demand Names on demand in memory.\n# TYPE padlock_certificates_on_demand gauge\npadlock_certificates_on_demand %d\n", onDemand)
}

var labels = strings.NewReplacer("\\", "\\\\", "\"", "\\\"", "\n", "\\n")

func label(s string) string { return labels.Replace(s) }
