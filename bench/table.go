package main

import (
	"fmt"
	"slices"
	"strings"
)

type row struct {
	workload
	values map[string][]float64
}

// table is what is printed: the ratio to the first server in the same round, its median over the rounds, and the
// medians in units.
type table struct {
	servers []string
	rows    []row
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

func (t *table) markdown(versions string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nRatios to %s in the same round, their medians; smaller is better:\n\n", versions, t.servers[0])
	t.write(&b, func(r row, server string) string {
		first := r.values[t.first(r)]
		var ratios []float64
		for round, value := range r.values[server] {
			ratios = append(ratios, value/first[round])
		}
		return fmt.Sprintf("%.2f", median(ratios))
	})

	b.WriteString("\n\"–\": the server does not have it, or not in its Debian package. Where the first has it not, 1 is the next.\n")
	b.WriteString("\nThe medians themselves, CPU time where the unit is µs but for latencies:\n\n")
	t.write(&b, func(r row, server string) string {
		return fmt.Sprintf("%.1f %s", median(r.values[server]), r.unit)
	})
	return b.String()
}

// first is the server whose figure is 1.
func (t *table) first(r row) string {
	for _, server := range t.servers {
		if len(r.values[server]) > 0 {
			return server
		}
	}
	return t.servers[0]
}

func (t *table) write(b *strings.Builder, cell func(row, string) string) {
	fmt.Fprintf(b, "| workload | %s |\n|---|%s\n", strings.Join(t.servers, " | "), strings.Repeat("---:|", len(t.servers)))
	for _, r := range t.rows {
		cells := make([]string, len(t.servers))
		for i, server := range t.servers {
			cells[i] = "–"
			if len(r.values[server]) > 0 {
				cells[i] = cell(r, server)
			}
		}
		fmt.Fprintf(b, "| %s | %s |\n", r.title, strings.Join(cells, " | "))
	}
}
