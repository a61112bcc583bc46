package console

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"padlock/handshake"
)

// chart is a small picture with its legend, and the same in words.
type chart struct {
	Title, Words string
	Bars         []bar
	Legend       []legend
}

type bar struct {
	Series    int
	X, Width  float64
	Y, Height float64
}

type legend struct {
	Series     int
	Name, Part string
}

const (
	chartHeight = 38
	chartSeries = 5 // colours; what is less common counts together
)

// Outcomes are the series of the first chart.
func (t trend) Outcomes() (all []Share) {
	for _, s := range []Share{t.Complete, t.Trouble, t.Noise} {
		if s.Count > 0 {
			all = append(all, s)
		}
	}
	return all
}

// newChart stacks a bar a minute, and tells what part of all each share is.
func newChart(title string, shares []Share) chart { return stack(title, shares, false) }

// countChart is the same, and tells how many there were.
func countChart(title string, shares []Share) chart { return stack(title, shares, true) }

func stack(title string, shares []Share, counts bool) chart {
	shares = few(shares)
	c := chart{Title: title}
	total, highest := 0, 1
	var sums [trendMinutes]int
	for _, s := range shares {
		total += s.Count
		for i, n := range s.Minutes {
			sums[i] += n
			highest = max(highest, sums[i])
		}
	}

	var words []string
	var base [trendMinutes]float64
	for series, s := range shares {
		series = colour(s.Name, series)
		for i, n := range s.Minutes {
			if n == 0 {
				continue
			}
			// A single handshake beside thousands stays visible.
			height := max(0.6, float64(n)/float64(highest)*chartHeight)
			base[i] += height
			c.Bars = append(c.Bars, bar{Series: series, X: float64(i) * 4, Y: max(0, 39.5-base[i]), Height: height})
		}

		part := percent(uint64(s.Count), uint64(total))
		if counts {
			part = fmt.Sprint(s.Count)
		}

		c.Legend = append(c.Legend, legend{series, s.Name, part})
		words = append(words, s.Name+" "+part)
	}

	c.Words = cmp.Or(strings.Join(words, ", "), "nothing yet")
	return c
}

// colour gives what failed the colour of failures, and noise none.
func colour(name string, series int) int {
	switch name {
	case "failed", "unanswered":
		return 9
	case "noise":
		return 8
	case "4xx":
		return 2
	}
	return series
}

func few(shares []Share) []Share {
	if len(shares) <= chartSeries {
		return shares
	}
	out := append([]Share(nil), shares[:chartSeries-1]...)
	rest := Share{Name: "others"}
	for _, s := range shares[chartSeries-1:] {
		for i, n := range s.Minutes {
			rest.add(i, n)
		}
	}
	return append(out, rest)
}

// timings shows where a handshake's time went; nil where that is not known.
func timings(e *handshake.Event) *chart {
	c := &chart{}
	left, total := e.Duration, e.Duration
	if total <= 0 {
		return nil
	}

	x := 0.0
	add := func(series int, name string, took time.Duration) {
		if took <= 0 {
			return
		}

		width := 600 * float64(took) / float64(total)
		part := fmt.Sprintf("%.2f ms", float64(took.Microseconds())/1000)
		c.Bars = append(c.Bars, bar{Series: series, X: x, Width: width})
		c.Legend = append(c.Legend, legend{series, name, part})
		c.Words += name + " " + part + ", "
		x += width
	}

	t := e.Timings
	for i, p := range []struct {
		name string
		took time.Duration
	}{{"key exchange", t.KeyExchange}, {"key schedule", t.KeySchedule}, {"signing", t.Signing}, {"client and network", t.Client}} {
		// The parts are measured apart from each other, and must not fill more than the whole.
		took := min(p.took, left)
		left -= took
		add(i, p.name, took)
	}

	if len(c.Bars) == 0 {
		return nil
	}

	add(8, "waiting for the hello, and the rest", left)
	c.Words = strings.TrimSuffix(c.Words, ", ")
	return c
}
