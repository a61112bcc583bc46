// Package redisurl reads the URLs by which Redis is named in the configuration.
//
//	options, prefix, err := redisurl.Parse("rediss://user:password@host:6379/0?ca=redis-ca.pem")
//	client := redis.NewUniversalClient(options)
package redisurl

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"padlock/internal/mask"
	"padlock/internal/pemfile"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// Timeout is for a connection, and for reading and writing.
const Timeout = 3 * time.Second

// Is reports whether a text is such a URL, by its scheme.
func Is(location string) bool {
	return strings.HasPrefix(location, "redis://") || strings.HasPrefix(location, "rediss://")
}

// Parse takes redis://[USER:PASSWORD@]HOST[:PORT][,HOST:PORT…][/DB]. rediss:// is with TLS; ?master=NAME asks
// Sentinels, ?cluster=true is for a Cluster; ?prefix= separates several padlocks in one database, and is returned;
// ?sentinel_password= is the Sentinels' own; ?ca=FILE holds the CAs that the servers are verified against, in PEM.
// Errors repeat no password.
func Parse(location string) (*redis.UniversalOptions, string, error) {
	// Failures are returned. The package would print them as well.
	logging.Disable()
	hosts, rest := hostsOf(location)
	u, err := url.Parse(rest)
	if err != nil {
		// The error of net/url would repeat the password.
		return nil, "", errors.New("not a URL such as redis://host:6379/0")
	}

	query := u.Query()
	take := func(name string) string {
		value := query.Get(name)
		query.Del(name)
		return value
	}

	master, cluster, prefix, sentinel, ca := take("master"), take("cluster"), take("prefix"), take("sentinel_password"), take("ca")
	// go-redis refuses parameters that it does not know.
	u.RawQuery = query.Encode()
	parsed, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, "", errors.New(mask.Text(err.Error()))
	}

	if ca != "" {
		if parsed.TLSConfig == nil {
			return nil, "", errors.New("ca= is for rediss://, which is with TLS")
		}
		if parsed.TLSConfig.RootCAs, err = pemfile.LoadPool(ca); err != nil {
			return nil, "", err
		}
	}

	isCluster, err := strconv.ParseBool(cluster)
	if err != nil && cluster != "" {
		return nil, "", errors.New("cluster= must be true or false")
	}
	o := &redis.UniversalOptions{
		Addrs: hosts, DB: parsed.DB, Username: parsed.Username, Password: parsed.Password, TLSConfig: parsed.TLSConfig,
		MasterName: master, SentinelPassword: sentinel, IsClusterMode: isCluster,
		DialTimeout: Timeout, ReadTimeout: Timeout, WriteTimeout: Timeout, ContextTimeoutEnabled: true, MaxRetries: 2,
		// Redis before version 7.2 answers CLIENT SETINFO with an error.
		DisableIdentity: true,
	}

	// ParseURL has completed the address with the default port.
	if len(hosts) == 1 && !isCluster && master == "" {
		o.Addrs = []string{parsed.Addr}
	}
	if len(hosts) > 1 && !isCluster && master == "" {
		return nil, "", errors.New("several hosts need ?master=NAME (Sentinel) or ?cluster=true")
	}

	if o.TLSConfig != nil && len(hosts) > 1 {
		// Each host of a cluster is verified under its own name.
		o.TLSConfig.ServerName = ""
	}

	return o, prefix, nil
}

// hostsOf takes the list of hosts apart, which is no part of a URL, and leaves the first.
func hostsOf(location string) (hosts []string, first string) {
	scheme, rest, _ := strings.Cut(location, "://")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}

	user, list := "", rest[:end]
	// The last one, as a password may contain another.
	if at := strings.LastIndexByte(list, '@'); at >= 0 {
		user, list = list[:at+1], list[at+1:]
	}
	hosts = strings.Split(list, ",")
	for i, host := range hosts {
		if !strings.Contains(strings.TrimPrefix(host, "["), ":") || strings.HasSuffix(host, "]") {
			hosts[i] = host + ":6379"
		}
	}

	return hosts, scheme + "://" + user + hosts[0] + rest[end:]
}
