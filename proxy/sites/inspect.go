package sites

import (
	"padlock/config"
	"padlock/inspect"
)

// inspected says what is remembered of a site's requests; nil: nothing.
func inspected(c *config.Site) *inspect.Limits {
	i := c.Inspect
	if i == nil || i.Off {
		return nil
	}
	made := &inspect.Limits{Site: c.Hosts[0], Requests: i.Requests, Body: int(i.Body), Redact: i.Redact}
	access := []*config.Access{&c.Access}
	for n := range c.Routes {
		access = append(access, &c.Routes[n].Access)
	}
	// Where clients show a key or a token, it is as good as a password.
	for _, a := range access {
		if a.APIKeys != nil {
			made.Secret = append(made.Secret, a.APIKeys.Header)
		}
		if a.JWT != nil {
			made.Secret = append(made.Secret, a.JWT.Header)
		}
	}
	return made
}
