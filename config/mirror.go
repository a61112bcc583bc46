package config

const (
	mirrorBody    = 64 << 10
	maxMirrorBody = 10 << 20
)

func (v *validator) mirror(path string, r *Route) {
	m := r.Mirror
	if len(r.To) == 0 {
		v.fail(path, "goes with to: only what is forwarded is mirrored")
	}
	if len(m.To) == 0 {
		v.fail(path+".to", "is missing: it needs a target, such as mirror: {to: 3001}")
	}
	targets := Upstream{To: m.To}
	v.targets(path, &targets, []string{"http", "https", "h2c"})

	standard(&m.Percent, 100)
	if standard(&m.Body, mirrorBody); m.Body > maxMirrorBody {
		v.fail(path+".body", "%d is more than 10MiB: content is kept in memory", m.Body)
	}
}
