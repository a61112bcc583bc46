package servicetest

import (
	"time"

	"github.com/quic-go/quic-go"
)

// Patient is a client's configuration of QUIC, or the default one for nil, for a machine that is busy: quic-go gives
// up after five seconds in which nothing comes, which is longer than a server needs and shorter than it may have to
// wait for a processor.
func Patient(c *quic.Config) *quic.Config {
	if c == nil {
		// These are the settings of quic-go's HTTP/3 client.
		c = &quic.Config{MaxIncomingStreams: -1, KeepAlivePeriod: 10 * time.Second}
	}
	c = c.Clone()
	c.HandshakeIdleTimeout = 30 * time.Second
	return c
}
