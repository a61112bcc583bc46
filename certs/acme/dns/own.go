package dns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-acme/lego/v5/challenge/dns01"

	"padlock/internal/regular"
)

// manual asks a person to make a record, and waits until it is there.
type manual struct{ log *slog.Logger }

func (m manual) Present(_ context.Context, domain, _, keyAuth string) error {
	info := dns01.GetChallengeInfo(context.Background(), domain, keyAuth)
	m.log.Warn("make this DNS record; padlock goes on when it is seen", "record", info.EffectiveFQDN, "type", "TXT", "ttl", dns01.DefaultTTL, "value", info.Value)
	return nil
}

func (m manual) CleanUp(_ context.Context, domain, _, keyAuth string) error {
	m.log.Info("the DNS record may be removed", "record", dns01.GetChallengeInfo(context.Background(), domain, keyAuth).EffectiveFQDN)
	return nil
}

func (manual) Timeout() (timeout, interval time.Duration) { return time.Hour, 5 * time.Second }

const maxSetting = 64 << 10 // bytes of a file

// setting reads a variable, or the file that NAME_FILE names, as lego does.
func setting(name string) (string, error) {
	if value := os.Getenv(name); value != "" {
		return value, nil
	}
	if file := os.Getenv(name + "_FILE"); file != "" {
		data, err := regular.Named(file, maxSetting)
		return strings.TrimSpace(string(data)), err
	}
	return "", fmt.Errorf("the environment variable %s is not set", name)
}

func optional(name, fallback string) string {
	if value, err := setting(name); err == nil {
		return value
	}
	return fallback
}

// exchange sends a request with a JSON body, and decodes a JSON answer. Its errors hold the status and what the
// service said.
func exchange(ctx context.Context, method, url, authorization string, body, answer any) error {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(data)
	}

	request, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", authorization)
	request.Header.Set("Content-Type", "application/json")
	return do(request, answer)
}

var errNotFound = errors.New("not found")

func do(request *http.Request, answer any) error {
	client := &http.Client{Timeout: 30 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case response.StatusCode == http.StatusNotFound:
		return errNotFound
	case response.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s: %.300q", request.Method, request.URL.Path, response.Status, data)
	case answer == nil || len(data) == 0:
		return nil
	}

	return json.Unmarshal(data, answer)
}

// record is where a challenge's record lies: its zone, its name below that, and its value.
func record(ctx context.Context, domain, keyAuth string) (zone, name, value string, err error) {
	info := dns01.GetChallengeInfo(ctx, domain, keyAuth)
	zone, err = dns01.DefaultClient().FindZoneByFqdn(ctx, info.EffectiveFQDN)
	if err != nil {
		return "", "", "", fmt.Errorf("finding the zone of %s: %w", info.EffectiveFQDN, err)
	}
	name = strings.TrimSuffix(strings.TrimSuffix(info.EffectiveFQDN, zone), ".")
	return strings.TrimSuffix(zone, "."), name, info.Value, nil
}

// with and without return the values of a record set after a change.
func with(values []string, value string) []string {
	if slices.Contains(values, value) {
		return values
	}
	return append(slices.Clone(values), value)
}

func without(values []string, value string) []string {
	// Never nil, which JSON has as null.
	return slices.DeleteFunc(append([]string{}, values...), func(v string) bool { return v == value })
}

// desec speaks the API of deSEC (desec.readthedocs.io), with lego's DESEC_TOKEN.
type desec struct{ base, token string }

func newDesec() (provider, error) {
	token, err := setting("DESEC_TOKEN")
	return desec{optional("DESEC_API_URL", "https://desec.io/api/v1"), token}, err
}

func (desec) Timeout() (timeout, interval time.Duration) { return 2 * time.Minute, 4 * time.Second }

type desecSet struct {
	Name    string   `json:"subname"`
	Type    string   `json:"type"`
	TTL     int      `json:"ttl"`
	Records []string `json:"records"`
}

func (d desec) change(ctx context.Context, domain, keyAuth string, change func(values []string, value string) []string) error {
	zone, name, value, err := record(ctx, domain, keyAuth)
	if err != nil {
		return err
	}
	sets := d.base + "/domains/" + url.PathEscape(zone) + "/rrsets/"
	set := desecSet{}
	err = exchange(ctx, http.MethodGet, sets+url.PathEscape(name)+"/TXT/", "Token "+d.token, nil, &set)
	if err != nil && !errors.Is(err, errNotFound) {
		return err
	}
	// 3600 is the least that it takes.
	set = desecSet{Name: name, Type: "TXT", TTL: 3600, Records: change(set.Records, `"`+value+`"`)}
	return exchange(ctx, http.MethodPut, sets, "Token "+d.token, []desecSet{set}, nil)
}

func (d desec) Present(ctx context.Context, domain, _, keyAuth string) error {
	return d.change(ctx, domain, keyAuth, with)
}

func (d desec) CleanUp(ctx context.Context, domain, _, keyAuth string) error {
	return d.change(ctx, domain, keyAuth, without)
}

// azure speaks the API of Azure DNS (version 2018-05-01) with a service principal, set as lego's azuredns is.
type azure struct {
	login, management           string
	tenant, client, secret      string
	subscription, resourceGroup string
	zone                        string
}

func newAzure() (provider, error) {
	a := azure{
		login: optional("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com"), management: optional("AZURE_RESOURCE_MANAGER", "https://management.azure.com"),
		zone: optional("AZURE_ZONE_NAME", ""),
	}
	var errs []error
	for _, s := range []struct {
		name  string
		field *string
	}{
		{"AZURE_TENANT_ID", &a.tenant}, {"AZURE_CLIENT_ID", &a.client}, {"AZURE_CLIENT_SECRET", &a.secret},
		{"AZURE_SUBSCRIPTION_ID", &a.subscription}, {"AZURE_RESOURCE_GROUP", &a.resourceGroup},
	} {
		var err error
		*s.field, err = setting(s.name)
		errs = append(errs, err)
	}

	return a, errors.Join(errs...)
}

func (azure) Timeout() (timeout, interval time.Duration) { return 2 * time.Minute, 2 * time.Second }

func (a azure) authorization(ctx context.Context) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {a.client}, "client_secret": {a.secret}, "scope": {a.management + "/.default"}}
	address := strings.TrimSuffix(a.login, "/") + "/" + url.PathEscape(a.tenant) + "/oauth2/v2.0/token"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var token struct {
		AccessToken string `json:"access_token"`
	}
	err = do(request, &token)
	return "Bearer " + token.AccessToken, err
}

type azureSet struct {
	Properties struct {
		TTL     int `json:"TTL"`
		Records []struct {
			Value []string `json:"value"`
		} `json:"TXTRecords"`
	} `json:"properties"`
}

func (a azure) change(ctx context.Context, domain, keyAuth string, change func(values []string, value string) []string) error {
	zone, name, value, err := record(ctx, domain, keyAuth)
	if err != nil {
		return err
	}

	if a.zone != "" {
		name = strings.TrimSuffix(name+"."+zone, "."+a.zone)
		zone = a.zone
	}

	authorization, err := a.authorization(ctx)
	if err != nil {
		return err
	}

	address := fmt.Sprintf("%s/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Network/dnsZones/%s/TXT/%s?api-version=2018-05-01",
		strings.TrimSuffix(a.management, "/"), url.PathEscape(a.subscription), url.PathEscape(a.resourceGroup), url.PathEscape(zone), url.PathEscape(name))
	var set azureSet
	err = exchange(ctx, http.MethodGet, address, authorization, nil, &set)
	if err != nil && !errors.Is(err, errNotFound) {
		return err
	}

	var values []string
	for _, r := range set.Properties.Records {
		values = append(values, strings.Join(r.Value, ""))
	}
	values = change(values, value)
	if len(values) == 0 {
		return exchange(ctx, http.MethodDelete, address, authorization, nil, nil)
	}

	set = azureSet{}
	set.Properties.TTL = 60
	for _, v := range values {
		set.Properties.Records = append(set.Properties.Records, struct {
			Value []string `json:"value"`
		}{[]string{v}})
	}

	return exchange(ctx, http.MethodPut, address, authorization, set, nil)
}

func (a azure) Present(ctx context.Context, domain, _, keyAuth string) error {
	return a.change(ctx, domain, keyAuth, with)
}

func (a azure) CleanUp(ctx context.Context, domain, _, keyAuth string) error {
	return a.change(ctx, domain, keyAuth, without)
}
