package discovery

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/config"
)

// What the engine may send at most. A container's inspection holds its whole environment, a list all labels of all
// containers.
const (
	maxList    = 64 << 20
	maxInspect = 8 << 20
	maxEvent   = 1 << 20
	maxAnswer  = 4 << 10 // of what is quoted of a failure
)

// newestAPI is the newest version of the engine's interface that padlock asks for; oldestAPI the oldest that it
// understands.
const (
	newestAPI = 51 // 1.51
	oldestAPI = 24
)

const (
	answerTimeout  = 10 * time.Second
	inspectTimeout = 3 * time.Second // of one container, less than a start waits for all
	inspections    = 32              // at once
)

// engine asks a container engine, and changes nothing there. https://docs.docker.com/reference/api/engine/
type engine struct {
	client *http.Client
	base   string // "", or "/v1.41" once it is known

	maxList, maxInspect int64 // bytes
}

func newEngine(d *config.Docker) *engine {
	network, address := d.Dial()
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}

	return &engine{maxList: maxList, maxInspect: maxInspect, client: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			},
			MaxResponseHeaderBytes: 64 << 10,
			ResponseHeaderTimeout:  answerTimeout,
			DisableCompression:     true,
			// All inspections keep their connections, and so do the list and the events.
			MaxIdleConns:        inspections + 2,
			MaxIdleConnsPerHost: inspections + 2,
			IdleConnTimeout:     time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// statusError is an answer that is none.
type statusError struct {
	path   string
	status int
	text   string
}

func (e statusError) Error() string {
	return fmt.Sprintf("GET %s: %d %s: %s", e.path, e.status, http.StatusText(e.status), e.text)
}

// negotiate finds the version that both sides speak. Where a proxy before the engine keeps that to itself, requests
// name none, which means the engine's own.
func (e *engine) negotiate(ctx context.Context) error {
	// Every engine answers this request without a version.
	e.base = ""
	response, err := e.get(ctx, "/_ping")
	if refused := (statusError{}); errors.As(err, &refused) && refused.status < 500 {
		return nil
	}
	if err != nil {
		return err
	}

	response.Body.Close()
	major, minor, found := strings.Cut(response.Header.Get("Api-Version"), ".")
	n, err := strconv.Atoi(minor)
	switch {
	case !found:
		return nil
	case err != nil || major != "1":
		return fmt.Errorf("the engine speaks version %q of its interface, which padlock does not know", response.Header.Get("Api-Version"))
	case n < oldestAPI:
		return fmt.Errorf("the engine speaks version 1.%d of its interface, and padlock 1.%d and later: a newer engine is needed", n, oldestAPI)
	}

	e.base = fmt.Sprintf("/v1.%d", min(n, newestAPI))
	return nil
}

// get leaves the body to be read, after 200 alone.
func (e *engine) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+e.base+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := e.client.Do(request)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			// The address in the outer error is made up, as the client speaks over a socket.
			err = wrapped.Err
		}
		return nil, err
	}

	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		name, _, _ := strings.Cut(path, "?")
		return nil, statusError{name, response.StatusCode, strings.TrimSpace(string(text))}
	}

	return response, nil
}

// ask decodes an answer.
func (e *engine) ask(ctx context.Context, path string, limit int64, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	response, err := e.get(ctx, path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// One byte more than the limit shows that there is more.
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	name, _, _ := strings.Cut(path, "?")
	switch {
	case err != nil:
		return fmt.Errorf("GET %s: %w", name, err)
	case int64(len(body)) > limit:
		return fmt.Errorf("GET %s: the engine answers with more than %d bytes", name, limit)
	}

	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: what answers is no container engine: %w", name, err)
	}

	return nil
}

// filters are those of the engine's requests, as their query.
func filters(of map[string][]string) string {
	text, _ := json.Marshal(of) // texts
	return "?filters=" + url.QueryEscape(string(text))
}

// listed is a container in the list.
type listed struct {
	ID      string            `json:"Id"`
	Names   []string          `json:"Names"`
	Created int64             `json:"Created"` // in seconds of Unix time
	Labels  map[string]string `json:"Labels"`
	reached
}

// reached is what a list shows of how a container is reached.
type reached struct {
	Ports []struct {
		IP                      string
		PrivatePort, PublicPort int
		Type                    string
	}
	NetworkSettings struct{ Networks map[string]*attachment }
}

// same reports whether a container is reached as it was before. An address that it had may be another's since.
func (r *reached) same(before *reached) bool {
	if len(r.Ports) != len(before.Ports) {
		return false
	}
	// Docker lists ports in no fixed order.
	for _, port := range r.Ports {
		if !slices.Contains(before.Ports, port) {
			return false
		}
	}
	return maps.EqualFunc(r.NetworkSettings.Networks, before.NetworkSettings.Networks, func(a, b *attachment) bool {
		return a == b || a != nil && b != nil && *a == *b
	})
}

// name is the one that people use.
func (l *listed) name() string {
	for _, name := range l.Names {
		// Names with a slash are links of other containers.
		if name = strings.TrimPrefix(name, "/"); name != "" && !strings.Contains(name, "/") {
			return name
		}
	}
	return l.ID[:min(len(l.ID), 12)]
}

// containerID is what goes into a path.
var containerID = regexp.MustCompile(`^[0-9a-f]{12,64}$`)

// running lists the running containers that have all of the labels.
func (e *engine) running(ctx context.Context, labels []string) (all []listed, err error) {
	wanted := map[string][]string{"status": {"running"}}
	if len(labels) > 0 {
		wanted["label"] = labels
	}
	if err := e.ask(ctx, "/containers/json"+filters(wanted), e.maxList, &all); err != nil {
		return nil, err
	}

	for _, c := range all {
		// The identifier becomes a part of a path, and must not lead to another.
		if !containerID.MatchString(c.ID) {
			return nil, fmt.Errorf("GET /containers/json: %.80q is not the identifier of a container", c.ID)
		}
	}

	return all, nil
}

// inspected is what is known of a container.
type inspected struct {
	ID      string    `json:"Id"`
	Name    string    `json:"Name"`
	Created time.Time `json:"Created"`
	State   struct {
		Running, Paused, Restarting bool
		Health                      *struct{ Status string }
	} `json:"State"`
	Config struct {
		Labels       map[string]string
		ExposedPorts map[string]struct{}
		StopSignal   string
	} `json:"Config"`
	HostConfig struct {
		NetworkMode string
	} `json:"HostConfig"`
	NetworkSettings struct {
		Ports    map[string][]binding
		Networks map[string]*attachment
	} `json:"NetworkSettings"`
}

// binding is where a port is published.
type binding struct{ HostIP, HostPort string }

// attachment is a container's place in a network.
type attachment struct {
	NetworkID         string
	IPAddress         string
	GlobalIPv6Address string
}

// inspect returns nil for a container that is there no more.
func (e *engine) inspect(ctx context.Context, id string) (*inspected, error) {
	c := new(inspected)
	err := e.ask(ctx, "/containers/"+url.PathEscape(id)+"/json", e.maxInspect, c)
	if gone := (statusError{}); errors.As(err, &gone) && gone.status == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// event is something that has happened to a container or a network.
type event struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
}

// watched are the events after which sites may be others.
var watched = map[string][]string{
	"type":  {"container", "network"},
	"event": {"start", "restart", "kill", "die", "stop", "pause", "unpause", "rename", "destroy", "health_status", "connect", "disconnect"},
}

// events calls each until the stream ends, which is an error, or ctx does. It calls opened once nothing is missed any
// more.
func (e *engine) events(ctx context.Context, opened func(), each func(event)) error {
	response, err := e.get(ctx, "/events"+filters(watched))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// The engine sends every event from here on, so a full list that is asked for now misses nothing.
	opened()
	lines := bufio.NewScanner(response.Body)
	// A scanner's own limit of 64 KiB may be less than an event with many labels takes.
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var next event
		if err := json.Unmarshal(lines.Bytes(), &next); err != nil {
			return fmt.Errorf("GET /events: what answers is no container engine: %w", err)
		}
		each(next)
	}

	if err := lines.Err(); err != nil {
		return fmt.Errorf("GET /events: %w", err)
	}

	return errors.New("GET /events: the engine has ended the stream")
}
