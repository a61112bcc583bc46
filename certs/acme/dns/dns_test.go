package dns

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"

	"padlock/config"
)

func TestEveryProviderIsKnownAndNamesWhatItMisses(t *testing.T) {
	for _, name := range config.DNSProviders {
		_, err := New(Options{Provider: name, Log: slog.New(slog.DiscardHandler)})
		if err != nil && strings.Contains(err.Error(), "is not a DNS provider") {
			t.Errorf("%s: %v", name, err)
		}
		if name != "manual" && name != "gcloud" && name != "route53" && err == nil { // those two ask the machine they run on
			t.Errorf("%s is content with an empty environment", name)
		}
	}
}

// zone is a DNS server for example.com, whose TXT records are those of a web service's record set.
type zone struct {
	mu      sync.Mutex
	records map[string][]string // by full name
}

func (z *zone) txt(name string) []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.records[name])
}

func (z *zone) set(name string, values []string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[name] = values
}

func startZone(t *testing.T) (*zone, string) {
	t.Helper()
	z := &zone{records: map[string][]string{}}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		q := r.Question[0]
		header := func(kind uint16) dns.RR_Header {
			return dns.RR_Header{Name: q.Name, Rrtype: kind, Class: dns.ClassINET}
		}
		switch {
		case q.Qtype == dns.TypeSOA && q.Name == "example.com.":
			m.Answer = []dns.RR{&dns.SOA{Hdr: header(dns.TypeSOA), Ns: "ns.example.com.", Mbox: "x.example.com."}}
		case q.Qtype == dns.TypeTXT:
			for _, v := range z.txt(q.Name) {
				m.Answer = append(m.Answer, &dns.TXT{Hdr: header(dns.TypeTXT), Txt: []string{v}})
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return z, conn.LocalAddr().String()
}

// The web services of deSEC and Azure as they document them, in front of a DNS server that the solver asks.
func TestOwnProvidersSetAndTakeAwayTheRecord(t *testing.T) {
	z, resolver := startZone(t)
	const name = "_acme-challenge.app.example.com."
	z.set(name, []string{"somebody else's"})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch path := r.URL.Path; {
		case r.URL.Path == "/tenant/oauth2/v2.0/token":
			_, _ = w.Write([]byte(`{"access_token": "fresh"}`))
		case r.Header.Get("Authorization") != "Token desec-secret" && r.Header.Get("Authorization") != "Bearer fresh":
			http.Error(w, "who are you?", http.StatusUnauthorized)
		case path == "/desec/domains/example.com/rrsets/_acme-challenge.app/TXT/" && r.Method == "GET":
			var quoted []string
			for _, v := range z.txt(name) {
				quoted = append(quoted, `"`+v+`"`)
			}
			_ = json.NewEncoder(w).Encode(desecSet{Name: "_acme-challenge.app", Type: "TXT", Records: quoted})
		case path == "/desec/domains/example.com/rrsets/" && r.Method == "PUT":
			var sets []desecSet
			if json.Unmarshal(body, &sets) != nil || len(sets) != 1 || sets[0].Records == nil || sets[0].TTL < 3600 {
				http.Error(w, string(body), http.StatusBadRequest)
				return
			}
			var plain []string
			for _, v := range sets[0].Records {
				plain = append(plain, strings.Trim(v, `"`))
			}
			z.set(name, plain)
		case path == "/subscriptions/sub/resourceGroups/group/providers/Microsoft.Network/dnsZones/example.com/TXT/_acme-challenge.app":
			var set azureSet
			switch r.Method {
			case "GET":
				values := z.txt(name)
				if len(values) == 0 {
					http.NotFound(w, r)
					return
				}
				for _, v := range values {
					set.Properties.Records = append(set.Properties.Records, struct {
						Value []string `json:"value"`
					}{[]string{v}})
				}
				_ = json.NewEncoder(w).Encode(set)
			case "PUT":
				_ = json.Unmarshal(body, &set)
				var values []string
				for _, r := range set.Properties.Records {
					values = append(values, strings.Join(r.Value, ""))
				}
				z.set(name, values)
			case "DELETE":
				z.set(name, nil)
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer service.Close()
	for variable, value := range map[string]string{
		"DESEC_API_URL": service.URL + "/desec", "DESEC_TOKEN": "desec-secret",
		"AZURE_AUTHORITY_HOST": service.URL, "AZURE_RESOURCE_MANAGER": service.URL, "AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client",
		"AZURE_CLIENT_SECRET": "secret", "AZURE_SUBSCRIPTION_ID": "sub", "AZURE_RESOURCE_GROUP": "group",
	} {
		t.Setenv(variable, value)
	}
	for _, provider := range []string{"desec", "azuredns"} {
		s, err := New(Options{Provider: provider, Resolvers: []string{resolver}, Timeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		c := acme.Challenge{Type: "dns-01", Token: "token", KeyAuthorization: "token.thumb", Identifier: acme.Identifier{Type: "dns", Value: "app.example.com"}}
		if err := errors.Join(s.Present(t.Context(), c), s.Wait(t.Context(), c)); err != nil {
			t.Fatalf("%s: %v", provider, err)
		}
		if values := z.txt(name); !slices.Contains(values, c.DNS01KeyAuthorization()) || !slices.Contains(values, "somebody else's") {
			t.Errorf("%s: the records are %q", provider, values)
		}
		if err := s.CleanUp(t.Context(), c); err != nil {
			t.Fatalf("%s: %v", provider, err)
		}
		if values := z.txt(name); !slices.Equal(values, []string{"somebody else's"}) {
			t.Errorf("%s: afterwards the records are %q", provider, values)
		}
	}
	// A service that refuses: the error says so, and the next order of the name is not kept waiting.
	t.Setenv("DESEC_TOKEN", "wrong")
	s, err := New(Options{Provider: "desec", Resolvers: []string{resolver}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c := acme.Challenge{Type: "dns-01", KeyAuthorization: "x", Identifier: acme.Identifier{Type: "dns", Value: "app.example.com"}}
	for range 2 {
		if err := s.Present(t.Context(), c); err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%v", err)
		}
	}
}
