package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"padlock/internal/invoker"
	"padlock/internal/regular"
)

const maxFile = 16 << 20

const emptyFile = "the file is empty: it needs sites, such as sites: [{hosts: [app.test], routes: [{to: 3000}]}]"

// Load reads, decodes and validates a file, or standard input for "-". What is wrong with its content is an Errors;
// the configuration beside them is what was understood of it, to look for further errors.
// warn is called for what works but should be written otherwise: keys under names that they had before.
func Load(path string, stdin io.Reader, warn func(Error)) (*Config, error) {
	if path != "-" {
		data, err := regular.Named(path, maxFile)
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		return parse(path, data, warn)
	}

	const name = "standard input"
	// One byte more than is allowed shows that there is more, without reading all of it.
	data, err := io.ReadAll(io.LimitReader(stdin, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the configuration %q: %w", name, err)
	case len(data) > maxFile:
		return nil, fmt.Errorf("reading the configuration %q: larger than %d bytes", name, maxFile)
	}

	return parse(name, data, warn)
}

// Parse decodes and validates a file's content without warnings; name is what errors call it.
func Parse(name string, data []byte) (*Config, error) { return parse(name, data, func(Error) {}) }

func parse(name string, data []byte, warn func(Error)) (*Config, error) {
	cfg := Default()
	d := &decoder{file: name, getenv: lookupEnv, places: map[string]*yaml.Node{}}
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		return nil, Errors{{File: name, Line: 1, Column: 1, Message: emptyFile}}
	case err != nil:
		return nil, Errors{syntaxError(name, data, err)}
	}

	var second yaml.Node
	// A second document would be ignored silently, with the sites in it.
	if err := decoder.Decode(&second); err == nil {
		return nil, Errors{{File: name, Line: second.Line, Column: second.Column, Message: "a second document begins here, and the file must hold exactly one: take away the line --- before it"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, Errors{syntaxError(name, data, err)}
	}

	d.decode(document.Content[0], reflect.ValueOf(cfg).Elem(), "")
	relativeTo(filepath.Dir(name), reflect.ValueOf(cfg).Elem())

	// A key that could not be decoded has its default, and what is wrong with that is not the user's mistake.
	undecoded := d.meant
	for _, e := range d.errs {
		undecoded = append(undecoded, e.Path)
	}

	for _, e := range (&validator{inFile: true}).validate(cfg) {
		if !slices.ContainsFunc(undecoded, func(path string) bool {
			return follows(e.Path, path) || e.other != "" && strings.HasPrefix(path, e.other)
		}) {
			e = d.place(e)
			if n, ok := d.places[e.other]; ok && e.other != "" {
				e.Message = strings.Replace(e.Message, e.other, fmt.Sprintf("%s (line %d)", e.other, n.Line), 1)
			}
			d.errs = append(d.errs, e)
		}
	}

	if len(d.errs) > 0 {
		// In the order of the file, as decoding finds its errors before validation does.
		slices.SortStableFunc(d.errs, func(a, b Error) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
		return cfg, d.errs
	}

	// Warnings come only for a file that works: beside errors they would be noise.
	for _, e := range d.old {
		warn(e)
	}
	for _, e := range cfg.Warnings() {
		warn(d.place(e))
	}

	return cfg, nil
}

// locate gives what was found wrong after a file was read the lines where its paths stand in it. What is not wrong
// because of the file, or cannot be found there any more, stays as it is.
func locate(file string, errs []*Error) {
	data, err := regular.Named(file, maxFile)
	var document yaml.Node
	if err != nil || yaml.Unmarshal(data, &document) != nil || len(document.Content) == 0 {
		return
	}
	d := &decoder{file: file, getenv: lookupEnv, places: map[string]*yaml.Node{}}
	d.decode(document.Content[0], reflect.ValueOf(Default()).Elem(), "")
	for _, e := range errs {
		if e.Path != "" && e.Line == 0 {
			*e = d.place(*e)
		}
	}
}

// Located is an error that was found after a file was read, with the lines where what is wrong stands in the file.
// Without a file (""), the paths of keys say nothing, and are left out; "-" is standard input, which cannot be read
// again.
func Located(file string, err error) error {
	for _, wrong := range places(err) {
		switch {
		case file == "":
			for _, e := range wrong {
				e.Path = ""
			}
		case file != "-":
			locate(file, wrong)
		}
	}
	return err
}

// places are those of all that is wrong, wherever in an error it stands.
func places(err error) (all [][]*Error) {
	switch e := err.(type) {
	case nil:
		return nil
	case Errors:
		var of []*Error
		for i := range e {
			of = append(of, &e[i])
		}
		return [][]*Error{of}
	case *machineError:
		return append([][]*Error{{&e.place}}, places(e.err)...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, places(inner)...)
		}
		return all
	}
	return places(errors.Unwrap(err))
}

// follows reports whether what is wrong at a path may only be because another, in it or around it, could not be
// decoded.
func follows(path, undecoded string) bool {
	return strings.HasPrefix(undecoded, path) || strings.HasPrefix(path, undecoded)
}

// place finds the line of a validation error: its own, or that of the nearest part that stands in the file.
func (d *decoder) place(e Error) Error {
	for path := e.Path; ; path = parent(path) {
		// A key that is missing stands nowhere: the part that should have it does.
		if n, ok := d.places[path]; ok {
			e.File, e.Line, e.Column = d.file, n.Line, n.Column
			return e
		}
		if path == "" {
			return e
		}
	}
}

func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '.' || path[i] == '[' {
			return path[:i]
		}
	}
	return ""
}

// Default is the configuration that a file or the flags change.
func Default() *Config {
	return &Config{
		Listen:               Listen{HTTPS: []string{":443"}, HTTP: []string{":80"}, HTTP3: true, AltSvc: "auto"},
		Storage:              defaultStorage(),
		Organization:         "padlock local development",
		UnderscoresInHeaders: "drop_known",
		Certificates:         Certificates{Client: "certmagic", Challenges: []string{"http-01", "tls-alpn-01"}, KeyTypes: []string{"p256"}, RenewRatio: 1.0 / 3},
		TLS:                  TLS{MinVersion: "1.2"},
		Handshakes: Handshakes{
			Show: "all", Format: "story", Output: "stderr", Sample: 1,
			Rotate: Rotate{MaxSize: 100, Keep: 5}, Privacy: HandshakePrivacy{Addresses: "full", Names: "full"},
		},
		AccessLog: AccessLog{
			Format: "json", Output: "stdout", Rotate: Rotate{MaxSize: 100, Keep: 5},
			Redact: []string{
				"access_token", "api_key", "apikey", "auth", "client_secret", "code", "id_token", "key", "password", "passwd", "refresh_token",
				"secret", "session", "sig", "signature", "token",
			},
		},
		Tracing: Tracing{Sample: 0.1},
		Timeouts: Timeouts{
			Handshake: 10 * time.Second, Header: 10 * time.Second, Idle: 2 * time.Minute, BodyIdle: 20 * time.Second, Send: 10 * time.Minute, Tunnel: time.Hour,
			Connect: 5 * time.Second, ResponseHeader: Patience(time.Minute), Shutdown: 30 * time.Second, Handover: 10 * time.Minute,
		},
		Limits: Limits{Connections: 20_000, Handshakes: 1024, HeaderSize: 64 << 10, HeaderFields: 200, BodyRate: 240, Streams: 100, Resets: 1000, NoopFrames: 10_000, Buffers: 256 << 20, Inspect: 64 << 20},
	}
}

// defaultStorage is the user's data directory (XDG Base Directory Specification); with sudo, that of the user who ran
// it, so that sudo padlock serves the CA that padlock trust has installed.
func defaultStorage() string {
	if base := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "padlock")
	}
	if user := invoker.Find(); user != nil {
		return filepath.Join(user.Home, ".local", "share", "padlock")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "padlock")
	}
	return ""
}
