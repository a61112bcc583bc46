package dns

import (
	"fmt"

	"github.com/go-acme/lego/v5/providers/dns/acmedns"
	"github.com/go-acme/lego/v5/providers/dns/cloudflare"
	"github.com/go-acme/lego/v5/providers/dns/digitalocean"
	"github.com/go-acme/lego/v5/providers/dns/dnsupdate"
	"github.com/go-acme/lego/v5/providers/dns/duckdns"
	"github.com/go-acme/lego/v5/providers/dns/exec"
	"github.com/go-acme/lego/v5/providers/dns/gandiv5"
	"github.com/go-acme/lego/v5/providers/dns/gcloud"
	"github.com/go-acme/lego/v5/providers/dns/hetzner"
	"github.com/go-acme/lego/v5/providers/dns/httpreq"
	"github.com/go-acme/lego/v5/providers/dns/namecheap"
	"github.com/go-acme/lego/v5/providers/dns/ovh"
	"github.com/go-acme/lego/v5/providers/dns/porkbun"
	"github.com/go-acme/lego/v5/providers/dns/route53"
)

// newProvider makes a provider by lego's name for it. Each is imported by itself: all that lego has would be 100 MB.
func newProvider(o Options) (provider, error) {
	switch o.Provider {
	case "acmedns":
		return acmedns.NewDNSProvider()
	case "azuredns":
		return newAzure()
	case "cloudflare":
		return cloudflare.NewDNSProvider()
	case "desec":
		return newDesec()
	case "digitalocean":
		return digitalocean.NewDNSProvider()
	case "dnsupdate":
		return dnsupdate.NewDNSProvider()
	case "duckdns":
		return duckdns.NewDNSProvider()
	case "exec":
		return exec.NewDNSProvider()
	case "gandiv5":
		return gandiv5.NewDNSProvider()
	case "gcloud":
		return gcloud.NewDNSProvider()
	case "hetzner":
		return hetzner.NewDNSProvider()
	case "httpreq":
		return httpreq.NewDNSProvider()
	case "manual":
		return manual{o.Log}, nil
	case "namecheap":
		return namecheap.NewDNSProvider()
	case "ovh":
		return ovh.NewDNSProvider()
	case "porkbun":
		return porkbun.NewDNSProvider()
	case "route53":
		return route53.NewDNSProvider()
	}
	return nil, fmt.Errorf("%q is not a DNS provider", o.Provider)
}
