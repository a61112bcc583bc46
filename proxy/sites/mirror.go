package sites

import (
	"slices"

	"padlock/config"
	"padlock/inspect"
	"padlock/proxy/message"
	"padlock/proxy/upstream"
)

// Mirror is where copies of a route's requests go.
type Mirror struct {
	Group   *upstream.Group // nil: the snapshot forwards nothing
	Percent float64
	Body    int64
	secrets []fieldName // that copies lack
}

func (b *builder) mirror(c *config.Route) (*Mirror, error) {
	if c.Mirror == nil {
		return nil, nil
	}
	m := &Mirror{Percent: float64(c.Mirror.Percent), Body: int64(c.Mirror.Body)}
	if !c.Mirror.Secrets {
		// Clients may send a key to routes that do not ask for it.
		m.secrets = fieldNames(slices.Concat(inspect.SecretFields(), b.cfg.CredentialFields()))
	}
	if b.targets == nil {
		return m, nil
	}

	group, err := b.targets.GroupOf(&config.Upstream{To: c.Mirror.To}, b.cfg.Timeouts, b.files)
	if err != nil {
		return nil, err
	}
	group.UpstreamHost = c.Host == "upstream"
	b.groups = append(b.groups, group)
	m.Group = group
	return m, nil
}

// CopyOf is a request without content that nothing of the first one belongs to: it outlives that.
func (m *Mirror) CopyOf(r *message.Request) *message.Request {
	fields := slices.Clone(r.Fields)
	fields.DelFunc(func(name string) bool {
		// Content comes whole, without trailers.
		return among(m.secrets, name) || message.Is(name, "X-Mirrored") || message.Is(name, "Expect") || message.Is(name, "Trailer") || message.Is(name, "Content-Length")
	})
	fields.Add("X-Mirrored", "1")
	return &message.Request{Method: r.Method, Scheme: r.Scheme, Host: r.Host, Target: r.Target, Proto: "HTTP/1.1", Fields: fields, Client: r.Client}
}
