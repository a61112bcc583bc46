package config

import "fmt"

// plain checks the sites that are served over plain HTTP.
func (v *validator) plain(c *Config, from int) {
	for i := from; i < len(c.Sites); i++ {
		s, at := &c.Sites[i], fmt.Sprintf("sites[%d].http", i)
		if s.HTTP != "serve" {
			continue
		}

		if len(c.Listen.HTTP) == 0 {
			v.fail(at, "serve needs an address for plain HTTP: listen: {http: [\":80\"]}")
		}
		if len(s.Listen) > 0 {
			v.fail(at, "serve is for sites of listen.https: plain HTTP comes in at listen.http, and this site has addresses of its own")
		}
		if s.TLS.ClientAuth != nil {
			v.fail(at, "serve would let clients in without the certificate that tls.client_auth asks for: take one of them away, "+
				"or make two sites of it")
		}
		if path := s.asksForCredentials(fmt.Sprintf("sites[%d]", i)); path != "" && len(c.Trusted) == 0 {
			v.fail(at, "serve would have passwords, keys or tokens (%s) sent readable for everybody on the way: use redirect; "+
				"behind a proxy that ends TLS, name it in trusted_proxies", path)
		}
	}
}
