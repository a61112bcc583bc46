package mask

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"testing"
)

// Every part of a URL that may hold a secret is masked, whatever surrounds it; the rest stays, so that people know which place is meant.
func TestNothingSecretOfAURLIsShown(t *testing.T) {
	for in, want := range map[string]string{
		"/var/lib/padlock":                 "/var/lib/padlock",
		"redis://cache:6379/0":             "redis://cache:6379/0",
		"redis://app:hunter2@cache:6379/0": "redis://xxxxx@cache:6379/0",
		"redis://hunter2@cache":            "redis://xxxxx@cache",
		"rediss://:hunter2@a:1,b:2/0?master=m&sentinel_password=hunter2&ca=/etc/ca.pem": "rediss://xxxxx@a:1,b:2/0?master=m&sentinel_password=xxxxx&ca=/etc/ca.pem",
		"redis://c?sentinel%5Fpassword=hunter2":                                         "redis://c?sentinel%5Fpassword=xxxxx",
		"redis://c?prefix=a;password=hunter2":                                           "redis://c?prefix=a&password=xxxxx",
		"postgres://db/padlock?user=u&password=hunter2&sslmode=verify-full":             "postgres://db/padlock?user=xxxxx&password=xxxxx&sslmode=verify-full",
		"https://ask.example/ok?token=hunter2":                                          "https://ask.example/ok?token=xxxxx",
		"https://ask.example/ok?hunter2":                                                "https://ask.example/ok?xxxxx",
		"https://ask.example/ok?domain=app.example&key=hunter2":                         "https://ask.example/ok?domain=app.example&key=xxxxx",
		"https://ca.example/directory#hunter2":                                          "https://ca.example/directory#xxxxx",
		"https://ca.example/directory":                                                  "https://ca.example/directory",
		"redis://a:hun/ter2@cache":                                                      "redis://…",
		"redis://a:b c@cache":                                                           "redis://xxxxx@cache",
		"redis://hunter2 cache":                                                         "redis://…",
		"redis://h%zzhunter2":                                                           "redis://…",
		"unix:/run/app.sock":                                                            "unix:/run/app.sock",
	} {
		if got := URL(in); got != want {
			t.Errorf("%s\nbecame %s\n   not %s", in, got, want)
		}
		if got := URL(URL(in)); got != want {
			t.Errorf("%s, twice, became %s", in, got)
		}
	}
	cause := &url.Error{Op: "Get", URL: "https://dns.example/update?domains=a&token=hunter2", Err: fs.ErrNotExist}
	err := Error(fmt.Errorf("publishing the record: %w, and (redis://:hunter2@cache)", cause))
	if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "https://dns.example/update?domains=a") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if Error(nil) != nil || Error(fs.ErrExist) != fs.ErrExist {
		t.Error("an error without a URL is another one")
	}
}
