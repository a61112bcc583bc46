package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// binary is a program and what it is linked of.
type binary struct {
	name    string
	version string
	sum     [sha256.Size]byte
	modules []*module // the standard library first
}

// module is one of the dependencies.
type module struct {
	Path    string
	Version string
	Dir     string
	ids     []string // SPDX identifiers of its licences
	files   []file
}

type file struct {
	name string
	text []byte
}

const standardLibrary = "std"

func read(name string) (*binary, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}

	info, err := buildinfo.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading what %s is linked of: %w", name, err)
	}

	known, err := downloaded()
	if err != nil {
		return nil, err
	}

	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}

	b := &binary{name: filepath.Base(info.Path), sum: sha256.Sum256(content)}
	b.modules = []*module{{Path: standardLibrary, Version: strings.TrimPrefix(info.GoVersion, "go"), Dir: strings.TrimSpace(string(root))}}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		m, ok := known[dep.Path]
		if !ok || m.Version != dep.Version || m.Dir == "" {
			return nil, fmt.Errorf("%s %s is not in the module cache as go.mod has it: go mod download", dep.Path, dep.Version)
		}
		b.modules = append(b.modules, m)
	}

	return b, nil
}

// downloaded are the modules of go.mod, by path.
func downloaded() (map[string]*module, error) {
	out, err := exec.Command("go", "list", "-m", "-json", "all").Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m -json all: %w", err)
	}
	known := map[string]*module{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		m := &module{}
		if err := d.Decode(m); errors.Is(err, io.EOF) {
			return known, nil
		} else if err != nil {
			return nil, err
		}
		known[m.Path] = m
	}
}
