package discovery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"padlock/config"
)

// composeService is the label by which Compose says which service a container is of, whose name its networks know.
const composeService = "com.docker.compose.service"

// called is a container by all names under which others may know it.
type called struct {
	Names           []string
	Labels          map[string]string
	State           string
	NetworkSettings struct {
		Networks map[string]*struct {
			NetworkID         string
			Aliases, DNSNames []string
		}
	}
}

// all are the names, the one that people use first.
func (c *called) all() (names []string) {
	for _, name := range c.Names {
		if name = strings.TrimPrefix(name, "/"); name != "" && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}

	if service := c.Labels[composeService]; service != "" {
		names = append(names, service)
	}

	for _, network := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
		if at := c.NetworkSettings.Networks[network]; at != nil {
			names = append(append(names, at.Aliases...), at.DNSNames...)
		}
	}

	return names
}

// Explain says what stands between padlock and a name that does not resolve: a container has it and is not reached by
// it, or one has a name like it. It is "" where the engine knows nothing of the kind, or does not answer.
func (w *Watcher) Explain(ctx context.Context, name string) string {
	w.asking.Lock()
	defer w.asking.Unlock()
	if err := w.engine.negotiate(ctx); err != nil {
		return ""
	}

	var containers []called
	if err := w.engine.ask(ctx, "/containers/json?all=1", maxNames, &containers); err != nil {
		return ""
	}

	at, err := w.engine.place(ctx)
	if err != nil {
		return ""
	}

	var known []string
	for i := range containers {
		names := containers[i].all()
		if slices.Contains(names, name) {
			return at.unreached(&containers[i], names[0], name)
		}
		known = append(known, names...)
	}

	near := config.Nearest(name, slices.DeleteFunc(known, func(other string) bool { return len(other) < 3 }))
	if near == "" {
		return ""
	}

	return fmt.Sprintf("did you mean %s? That is the name of a container", near)
}

// unreached says why a name that a container has leads nowhere from here.
func (p *place) unreached(c *called, container, name string) string {
	if c.State != "running" {
		return fmt.Sprintf("the container %s does not run: docker start %s", container, container)
	}

	var networks []string
	shared := false
	for network, at := range c.NetworkSettings.Networks {
		networks = append(networks, network)
		if at != nil {
			_, joined := p.networks[at.NetworkID]
			shared = shared || joined
		}
	}

	slices.Sort(networks)
	list := strings.Join(networks, ", ")
	switch {
	case p.name == "":
		return fmt.Sprintf("%s is a container's name, which its networks alone know (%s): publish its port (-p 127.0.0.1:3000:3000) and use that, or run padlock in a container of the same network", name, list)
	case !shared && len(networks) > 0:
		return fmt.Sprintf("the container %s is in the network %s, where padlock is not: docker network connect %s %s", container, list, networks[0], p.name)
	case slices.Contains(networks, "bridge"):
		return fmt.Sprintf("Docker's default network knows no names: docker network create web, and docker network connect web with %s and %s", container, p.name)
	}

	return ""
}
