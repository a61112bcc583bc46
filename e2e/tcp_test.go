//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"padlock/internal/servicetest"
)

// PostgreSQL, Redis and MQTT behind one padlock: each with its own clients, by name on a port that they share, or on a port of its own, where
// clients need not name it.
func TestServicesOfTCP(t *testing.T) {
	besides(t)
	postgres, redis, mqtt := servicetest.StartPostgres(t), servicetest.StartRedis(t), servicetest.StartMosquitto(t)
	hostOf := func(location string) string {
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		return u.Host
	}
	own, broker := servicetest.FreePort(t), servicetest.FreePort(t)
	file := write(t, "padlock.yaml", fmt.Sprintf(`
listen: {https: ["127.0.0.1:0"], http: []}
sites:
  - {hosts: [db.localhost], tcp: {to: %[1]s, starttls: postgres, idle: 10m}}
  - {hosts: [cache.localhost], tcp: {to: %[2]s}}
  - {hosts: [localhost], listen: ["127.0.0.1:%[5]d"], tcp: {to: %[3]s, connections: 100, alpn: [mqtt]}}
  - {hosts: [localhost, 127.0.0.1], listen: ["127.0.0.1:%[4]d"], tcp: {to: %[1]s, starttls: postgres}}
`, hostOf(postgres.URL), hostOf(redis.URL), hostOf(mqtt.URL), own, broker))
	p := startFile(t, filepath.Dir(file))
	root := p.root(t)
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	port := u.Port()
	say := func(want string, name string, args ...string) {
		t.Helper()
		c := exec.Command(need(t, name), args...)
		c.Env = append(os.Environ(), "PGCONNECT_TIMEOUT=10")
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	const query = "select 'the answer is ' || 6 * 7"
	for _, at := range []string{"host=db.localhost hostaddr=127.0.0.1 port=" + port, fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%d", own), fmt.Sprintf("host=127.0.0.1 port=%d", own)} {
		say("the answer is 42", "psql", at+" user=padlock dbname=postgres sslmode=verify-full sslrootcert="+root, "-Atc", query)
	}
	// Direct TLS, which libpq 17 has as sslnegotiation=direct: ALPN is insisted on.
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(root)
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig("postgres://padlock@db.localhost:" + port + "/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "db.localhost", NextProtos: []string{"postgresql"}}}
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil && c.(*tls.Conn).ConnectionState().NegotiatedProtocol != "postgresql" {
			err = fmt.Errorf("ALPN: %q", c.(*tls.Conn).ConnectionState().NegotiatedProtocol)
		}
		return c, err
	}
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := conn.QueryRow(ctx, "select count(*) from generate_series(1, 100000)").Scan(&rows); err != nil || rows != 100_000 {
		t.Errorf("direct TLS: %d rows, %v", rows, err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}

	redisCLI := []string{"-h", "127.0.0.1", "-p", port, "--tls", "--sni", "cache.localhost", "--cacert", root}
	say("OK", "redis-cli", append(redisCLI, "set", "key", "through TLS")...)
	say("through TLS", "redis-cli", append(redisCLI, "get", "key")...)

	mqttClient := []string{"-h", "localhost", "-p", fmt.Sprint(broker), "--cafile", root}
	subscriber := exec.Command(need(t, "mosquitto_sub"), append(mqttClient, "-t", "doors/#", "-C", "1", "-W", "30", "-v")...)
	heard := &log{more: make(chan struct{})}
	subscriber.Stdout, subscriber.Stderr = heard, heard
	if err := subscriber.Start(); err != nil {
		t.Fatal(err)
	}
	for range 50 { // until the subscription is there; messages before it are lost
		say("", "mosquitto_pub", append(mqttClient, "-t", "doors/front", "-m", "closed")...)
		heard.mu.Lock()
		done := strings.Contains(heard.text.String(), "doors/front closed")
		heard.mu.Unlock()
		if done {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	heard.wait(t, "doors/front closed")
	if err := subscriber.Wait(); err != nil {
		t.Error(err)
	}
	p.stderr.wait(t, "db.localhost", "cache.localhost", "the padlock is closed")
}
