package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The parts of CycloneDX 1.6 that a list of Go modules needs.
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp,omitempty"`
		Component component `json:"component"`
	}
	component struct {
		Type     string    `json:"type"`
		Ref      string    `json:"bom-ref"`
		Name     string    `json:"name"`
		Version  string    `json:"version"`
		PURL     string    `json:"purl,omitempty"`
		Hashes   []hash    `json:"hashes,omitempty"`
		Licences []licence `json:"licenses,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	licence struct {
		Licence struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	dependency struct {
		Ref string   `json:"ref"`
		On  []string `json:"dependsOn,omitempty"`
	}
)

// cycloneDX is the bill of materials. It has the time of a reproducible build, and no serial number, so that the same
// binary has the same.
func (b *binary) cycloneDX(epoch string) ([]byte, error) {
	program := component{
		Type: "application", Ref: b.name, Name: b.name, Version: b.version,
		Hashes: []hash{{"SHA-256", fmt.Sprintf("%x", b.sum)}}, Licences: licences([]string{"MIT"}),
	}
	all := bom{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{Component: program}}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		all.Metadata.Timestamp = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	}

	on := dependency{Ref: program.Ref}
	for _, m := range b.modules {
		c := component{Type: "library", Name: m.Path, Version: m.Version, PURL: purl(m), Licences: licences(m.ids)}
		c.Ref = c.PURL
		all.Components = append(all.Components, c)
		on.On = append(on.On, c.Ref)
	}

	all.Dependencies = []dependency{on}
	data, err := json.MarshalIndent(all, "", "  ")
	return append(data, '\n'), err
}

// purl names a module as package databases do; capital letters are small there.
func purl(m *module) string {
	return "pkg:golang/" + strings.ToLower(m.Path) + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
}

func licences(ids []string) (all []licence) {
	for _, id := range ids {
		var l licence
		l.Licence.ID = id
		all = append(all, l)
	}
	return all
}
