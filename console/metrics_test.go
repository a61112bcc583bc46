package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"padlock/console"
	"padlock/handshake"
)

// Names on demand are clients' to choose, so they are counted and not named. Two files with a certificate for the same name are one series,
// and not the end of all others.
func TestMetricsOfCertificatesAreBoundedAndWhole(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(days int) *time.Time {
		when := now.AddDate(0, 0, days)
		return &when
	}
	certificates := []console.Certificate{
		{Name: "app.test", Issuer: "R1", KeyType: "p256", NotAfter: at(-1), Expiring: true},
		{Name: "app.test", Issuer: "R1", KeyType: "p256", NotAfter: at(30), Renewal: at(20)},
		{Name: "app.test", Issuer: "R1", KeyType: "rsa2048", NotAfter: at(10), Error: "the CA is away"},
		{Name: "new.test", Error: "the CA is away", Expiring: true},
	}
	for i := range 1000 {
		certificates = append(certificates, console.Certificate{Name: fmt.Sprintf("customer%d.test", i), Issuer: "R1", NotAfter: at(10), OnDemand: true, Expiring: i%4 == 0})
	}
	url := admin(t, console.Options{Metrics: console.NewMetrics("test"), Certificates: func() []console.Certificate { return certificates }}, local)
	response := ask(t, "GET", url+"/metrics", nil)
	text := body(t, response)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(text)); err != nil || response.StatusCode != 200 {
		t.Fatalf("%s %v\n%.2000s", response.Status, err, text)
	}
	for _, want := range []string{
		`padlock_certificates_on_demand 1000`, `padlock_certificates_on_demand_expiring 250`,
		fmt.Sprintf(`padlock_certificate_not_after_timestamp_seconds{issuer="R1",key_type="p256",name="app.test"} %v`, float64(at(30).Unix())),
		fmt.Sprintf(`padlock_certificate_renewal_timestamp_seconds{issuer="R1",key_type="p256",name="app.test"} %v`, float64(at(20).Unix())),
		`padlock_certificate_expiring{issuer="R1",key_type="p256",name="app.test"} 0`, `padlock_certificate_failing{issuer="R1",key_type="rsa2048",name="app.test"} 1`,
		`padlock_certificate_expiring{issuer="",key_type="",name="new.test"} 1`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(text, "customer") {
		t.Error("a name on demand is a label's value")
	}
}

// Whatever a handshake's record says of one client is in no label.
func TestNoLabelIsAClients(t *testing.T) {
	m := console.NewMetrics("test")
	for i := range 1000 {
		own := fmt.Sprintf("client%d", i)
		m.Handshake(&handshake.Event{
			SNI: own, Remote: own, ALPN: own, JA3: own, JA4: own, CipherSuite: own, Outcome: handshake.Failed,
			Failure: &handshake.Failure{By: handshake.Client, Stage: fmt.Sprintf("message_%d", i%256), Alert: i % 256, AlertName: fmt.Sprintf("alert_%d", i%256), GoError: own, Cause: "a cause: " + own, Kind: "a cause"},
		})
	}
	text := body(t, ask(t, "GET", admin(t, console.Options{Metrics: m}, local)+"/metrics", nil))
	if want := `padlock_handshake_failures_total{alert="other",by="client",cause="a cause",stage="other"} 1000`; !strings.Contains(text, want) || strings.Contains(text, "client1") {
		t.Errorf("no %s in\n%s", want, text)
	}
}
