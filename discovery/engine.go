package discovery

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/config"
	"padlock/internal/lazy"
)

// What the engine may send at most. Whoever starts a container chooses how much the engine says of it: its labels stand
// in the list and in each of its events, and its environment in its inspection.
const (
	maxNames   = 64 << 20 // of a list that only advice is made of
	maxListed  = 8 << 20  // of one container in the list
	maxAll     = 100_000  // containers in the list
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
	listTimeout    = 30 * time.Second
	inspectTimeout = 3 * time.Second // of one container, less than a start waits for all
	inspections    = 32              // at once
)

// engine asks a container engine, and changes nothing there. https://docs.docker.com/reference/api/engine/
type engine struct {
	client *http.Client
	base   string // "", or "/v1.41" once it is known

	maxListed, maxInspect int64 // bytes
}

func newEngine(d *config.Docker) *engine {
	network, address := d.Dial()
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}

	return &engine{maxListed: maxListed, maxInspect: maxInspect, client: &http.Client{
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

	vast bool // the engine says more of it than padlock reads: only its identifier and its names are known
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
var containerID = lazy.Regexp(`^[0-9a-f]{12,64}$`)

// running lists the running containers that have all of the labels, and labels for padlock.
func (e *engine) running(ctx context.Context, labels []string) (all []listed, err error) {
	wanted := map[string][]string{"status": {"running"}}
	if len(labels) > 0 {
		wanted["label"] = labels
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	response, err := e.get(ctx, "/containers/json"+filters(wanted))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()

	count := 0
	err = eachElement(bufio.NewReaderSize(response.Body, 64<<10), e.maxListed, func(element []byte, whole bool) error {
		if count++; count > maxAll {
			return fmt.Errorf("the engine has more than %d containers", maxAll)
		}
		c, err := readListed(element, whole)
		if err != nil {
			return err
		}
		if c.vast || wants(c.Labels) {
			// Labels are read from the inspection. Those of all containers together have no bound.
			c.Labels = nil
			all = append(all, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("GET /containers/json: %w", err)
	}
	return all, nil
}

// readListed reads a container of the list, or what the beginning says of it where that is not the whole.
func readListed(element []byte, whole bool) (c listed, err error) {
	if whole {
		if err := json.Unmarshal(element, &c); err != nil {
			return c, fmt.Errorf("what answers is no container engine: %w", err)
		}
	} else {
		c.vast = true
		c.begin(json.NewDecoder(bytes.NewReader(element)))
	}
	// The identifier becomes a part of a path, and must not lead to another.
	if !containerID().MatchString(c.ID) {
		return c, fmt.Errorf("%.80q is not the identifier of a container", c.ID)
	}
	return c, nil
}

// begin reads identifier and names of a container, of which the rest may be missing.
func (l *listed) begin(d *json.Decoder) {
	for _, err := d.Token(); err == nil && (l.ID == "" || l.Names == nil); {
		key, broken := d.Token()
		if broken != nil {
			return
		}
		var value any = new(json.RawMessage)
		switch key {
		case "Id":
			value = &l.ID
		case "Names":
			value = &l.Names
		}
		err = d.Decode(value)
	}
}

// eachElement calls each with the objects of an array, one after the other. Of one with more than most bytes only the
// beginning is kept.
func eachElement(r *bufio.Reader, most int64, each func(element []byte, whole bool) error) error {
	const notEngine = "what answers is no container engine: %q is not a list of objects"
	next := func() (c byte, err error) {
		for range most {
			if c, err = r.ReadByte(); err == nil && (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
				continue
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return c, err
		}
		return 0, fmt.Errorf("the engine answers with more than %d bytes that say nothing", most)
	}

	c, err := next()
	switch {
	case err != nil:
		return err
	case c == 'n': // null, as programs in Go write a list that is none
		return nil
	case c != '[':
		return fmt.Errorf(notEngine, c)
	}

	var element []byte
	for {
		if c, err = next(); err == nil && c == ']' {
			return nil
		}
		if err == nil && element != nil {
			if c != ',' {
				return fmt.Errorf(notEngine, c)
			}
			c, err = next()
		}
		if err != nil {
			return err
		}
		if c != '{' {
			return fmt.Errorf(notEngine, c)
		}

		var whole bool
		if element, whole, err = restOfObject(r, append(element[:0], c), most); err != nil {
			return err
		}
		if err := each(element, whole); err != nil {
			return err
		}
	}
}

// restOfObject reads what follows the opening brace, which is in object already, to the closing one.
func restOfObject(r *bufio.Reader, object []byte, most int64) (all []byte, whole bool, err error) {
	whole = true
	for depth, quoted, escaped := 1, false, false; depth > 0; {
		c, err := r.ReadByte()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, false, err
		}

		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}

		if whole = whole && int64(len(object)) < most; whole {
			object = append(object, c)
		}
	}
	return object, whole, nil
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
	lines := bufio.NewReaderSize(response.Body, 64<<10)
	var line []byte
	for long := false; ; {
		part, err := lines.ReadSlice('\n')
		if line = append(line, part...); long {
			line = nil
		}
		// All labels of a container stand in its events. Of one with that many no more is known than that it has happened.
		if len(line) >= maxEvent {
			line, long = nil, true
			each(event{})
		}

		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return errors.New("GET /events: the engine has ended the stream")
		case err != nil:
			return fmt.Errorf("GET /events: %w", err)
		}

		if !long {
			var next event
			if err := json.Unmarshal(line, &next); err != nil {
				return fmt.Errorf("GET /events: what answers is no container engine: %w", err)
			}
			each(next)
		}
		line, long = line[:0], false
	}
}
