package config

const (
	inspectRequests = 200
	inspectBody     = 64 << 10
	maxInspected    = 100_000  // requests of a site
	maxInspectBody  = 64 << 20 // of one message
)

func (v *validator) inspect(path string, i *Inspect) {
	if i.Off {
		if *i != (Inspect{Off: true}) {
			v.fail(path, "off goes with nothing else")
		}
		return
	}

	standard(&i.Requests, inspectRequests)
	standard(&i.Body, inspectBody)
	if i.Requests < 1 || i.Requests > maxInspected {
		v.fail(path+".requests", "%d is not between 1 and %d", i.Requests, maxInspected)
	}
	if i.Body > maxInspectBody {
		v.fail(path+".body", "%d is more than 64MiB: a request is looked at as a whole", i.Body)
	}
}
