package probe

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Browsers find names below localhost on this machine, whatever the system's resolver says of them: so does a probe, which tells what a
// browser would see.
func TestNamesBelowLocalhostAreOnThisMachine(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, name := range []string{"shop.localhost", "a.Shop.LOCALHOST."} {
		report, err := Run(t.Context(), net.JoinHostPort(name, port), Options{Timeout: 5 * time.Second})
		if err != nil || report.Handshake == nil {
			t.Errorf("%s: %v, %+v", name, err, report)
		}
	}
}
