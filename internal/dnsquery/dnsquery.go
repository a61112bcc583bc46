// Package dnsquery asks DNS servers for records that package net does not look up, or not with their time to live.
package dnsquery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Timeout of one server's answer.
const Timeout = 2 * time.Second

// Ask puts one question to servers, as host:port, one after the other, and returns the records of the first answer.
// That a name, or a record of it, does not exist is an answer. A long one is fetched over TCP.
func Ask(ctx context.Context, servers []string, name string, kind uint16) ([]dns.RR, error) {
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	err := errors.New("no DNS server is known")
	for _, server := range servers {
		client := &dns.Client{Timeout: Timeout}
		var answer *dns.Msg
		if answer, _, err = client.ExchangeContext(ctx, question, server); err == nil && answer.Truncated {
			client.Net = "tcp"
			answer, _, err = client.ExchangeContext(ctx, question, server)
		}

		switch {
		case err != nil:
			continue
		case answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError:
			return answer.Answer, nil
		}

		err = fmt.Errorf("%s: the DNS server %s answers %s", name, server, dns.RcodeToString[answer.Rcode])
	}

	return nil, err
}
