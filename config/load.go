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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"padlock/internal/invoker"
	"padlock/internal/regular"
)

const maxFile = 16 << 20

// Load reads, decodes and validates a file, or standard input for "-". What is wrong with its content is an Errors.
func Load(path string, stdin io.Reader) (*Config, error) {
	if path != "-" {
		data, err := regular.Named(path, maxFile)
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		return Parse(path, data)
	}
	const name = "standard input"
	data, err := io.ReadAll(io.LimitReader(stdin, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the configuration %q: %w", name, err)
	case len(data) > maxFile:
		return nil, fmt.Errorf("reading the configuration %q: larger than %d bytes", name, maxFile)
	}
	return Parse(name, data)
}

// Parse decodes and validates a file's content; name is what errors call it.
func Parse(name string, data []byte) (*Config, error) {
	cfg := Default()
	d := &decoder{file: name, getenv: lookupEnv, places: map[string]*yaml.Node{}}
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		return nil, Errors{{File: name, Line: 1, Column: 1, Message: "the file is empty: it needs at least sites"}}
	case err != nil:
		return nil, Errors{syntaxError(name, err)}
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, Errors{{File: name, Line: 1, Column: 1, Message: "the file must hold exactly one document"}}
	}
	d.decode(document.Content[0], reflect.ValueOf(cfg).Elem(), "")
	undecoded := d.errs
	for _, e := range validate(cfg) {
		if !slices.ContainsFunc(undecoded, func(u Error) bool { return follows(e.Path, u.Path) }) {
			d.errs = append(d.errs, d.place(e))
		}
	}
	if len(d.errs) > 0 {
		slices.SortStableFunc(d.errs, func(a, b Error) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
		return nil, d.errs
	}
	return cfg, nil
}

// follows reports whether what is wrong at a path may only be because another, in it or around it, could not be decoded.
func follows(path, undecoded string) bool {
	return strings.HasPrefix(undecoded, path) || strings.HasPrefix(path, undecoded)
}

// place finds the line of a validation error: its own, or that of the nearest part that stands in the file.
func (d *decoder) place(e Error) Error {
	for path := e.Path; ; path = parent(path) {
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

var yamlLine = regexp.MustCompile(`line (\d+): `)

func syntaxError(name string, err error) Error {
	e := Error{File: name, Line: 1, Column: 1, Message: "not YAML: " + err.Error()}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
	}
	return e
}

// Default is the configuration that a file or the flags change.
func Default() *Config {
	return &Config{
		Listen:       Listen{HTTPS: []string{":443"}, HTTP: []string{":80"}, HTTP3: true, AltSvc: "auto"},
		Storage:      defaultStorage(),
		Organization: "padlock local development",
		DropAliases:  "known",
		Certificates: Certificates{Client: "certmagic", Challenges: []string{"http-01", "tls-alpn-01"}, KeyTypes: []string{"p256"}, RenewRatio: 1.0 / 3},
		TLS:          TLS{MinVersion: "1.2"},
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
			Handshake: 10 * time.Second, Header: 10 * time.Second, Idle: 2 * time.Minute, Stall: 20 * time.Second, Send: 10 * time.Minute, Tunnel: time.Hour,
			Connect: 5 * time.Second, ResponseHeader: Patience(time.Minute), Shutdown: 30 * time.Second, Handover: 10 * time.Minute,
		},
		Limits: Limits{Connections: 20_000, Handshakes: 1024, Head: 64 << 10, Fields: 200, BodyRate: 240, Streams: 100, Resets: 1000, Frames: 10_000, Buffers: 256 << 20},
	}
}

// defaultStorage is the user's data directory (XDG Base Directory Specification); with sudo, that of the user who ran it, so that
// sudo padlock serves the CA that padlock trust has installed.
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
