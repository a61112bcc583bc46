package lab

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Verdicts are all of them, the worst first.
var Verdicts = []Verdict{Unsafe, Weak, TooStrict, Unclear, OK}

// Summary is the report in a line.
func (r *Report) Summary() string {
	if r.Failed != "" {
		return "nothing can be concluded: " + r.Failed
	}
	var counts []string
	for _, v := range Verdicts {
		if n := r.Count(v); n > 0 || v == Unsafe {
			counts = append(counts, fmt.Sprintf("%d %s", n, v))
		}
	}
	text := fmt.Sprintf("%d endpoints: %s", len(r.Results), strings.Join(counts, ", "))
	if r.Stopped > 0 {
		text = fmt.Sprintf("interrupted, with %d endpoints left; %s", r.Stopped, text)
	}
	return text
}

// did is what a client did, in a word.
func (r *Result) did() string {
	switch {
	case r.Verdict == Unclear:
		return "?"
	case r.Endpoint.proof == ByEnd && r.Accepted:
		return "waits"
	case r.Endpoint.proof == ByEnd:
		return "gives up"
	case r.Accepted:
		return "accepts"
	}
	return "refuses"
}

// Table writes the report for people, lines cut at a width; 0: not cut.
func (r *Report) Table(w io.Writer, width int, paint func(Verdict, string) string) error {
	out := &lines{w: w, width: width}
	if r.Failed != "" {
		out.line("%s", r.Summary())
		return out.err
	}

	group := Group("")
	for i := range r.Results {
		result := &r.Results[i]
		e := result.Endpoint
		if e.Group != group {
			group = e.Group
			out.line("")
			out.line("%s", strings.ToUpper(string(group)))
		}
		out.painted(paint(result.Verdict, fmt.Sprintf("%-10s", result.Verdict)), 10, " %-28s %-13s %-8s %s", e.Name, result.Expected, result.did(), result.Reason)
	}

	r.problems(out, paint)
	out.line("")
	out.line("%s", r.Summary())
	return out.err
}

// problems writes what is to be mended, and why.
func (r *Report) problems(out *lines, paint func(Verdict, string) string) {
	for _, v := range []Verdict{Unsafe, Weak, TooStrict} {
		if r.Count(v) == 0 {
			continue
		}
		out.line("")
		out.line("%s", paint(v, heading(v)))
		for _, result := range r.Results {
			if result.Verdict != v {
				continue
			}
			e := result.Endpoint
			out.wrap = true
			out.line("  %s: %s %s (%s)", e.Name, e.Wrong, e.Consequence, e.Rule)
		}
		out.wrap = false
	}
}

func heading(v Verdict) string {
	switch v {
	case Unsafe:
		return "UNSAFE: the client accepts what it must refuse"
	case Weak:
		return "WEAK: the client accepts what it should refuse"
	}
	return "TOO STRICT: the client refuses what it should accept"
}

// lines writes lines, and keeps the first error.
type lines struct {
	w     io.Writer
	width int
	wrap  bool
	err   error
}

func (l *lines) line(format string, args ...any) { l.painted("", 0, format, args...) }

// painted writes a line whose beginning has colours, and takes so many columns.
func (l *lines) painted(front string, columns int, format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if l.width > 0 && !l.wrap {
		text = cut(text, l.width-columns)
	}
	if l.err == nil {
		_, l.err = fmt.Fprintln(l.w, front+text)
	}
}

func cut(text string, width int) string {
	letters := []rune(text)
	if len(letters) <= width || width < 2 {
		return text
	}
	return string(letters[:width-1]) + "…"
}

// visitJSON is a connection as the report has it.
type resultJSON struct {
	Endpoint    string      `json:"endpoint"`
	Group       Group       `json:"group"`
	Expected    Expectation `json:"expected"`
	Verdict     Verdict     `json:"verdict"`
	Accepted    bool        `json:"accepted"`
	Reason      string      `json:"reason"`
	Wrong       string      `json:"wrong"`
	Rule        string      `json:"rule"`
	Consequence string      `json:"consequence"`
	Seconds     float64     `json:"seconds"`
	Outcome     Outcome     `json:"client"`
	Visits      []Visit     `json:"connections"`
}

func (r *Result) json() resultJSON {
	e := r.Endpoint
	j := resultJSON{e.Name, e.Group, r.Expected, r.Verdict, r.Accepted, r.Reason, e.Wrong, e.Rule, e.Consequence, r.Outcome.Duration.Round(time.Millisecond).Seconds(), r.Outcome, r.Visits}
	if j.Visits == nil {
		j.Visits = []Visit{}
	}
	return j
}

// JSON writes the whole report.
func (r *Report) JSON(w io.Writer) error {
	report := struct {
		Schema   int             `json:"schema"`
		Command  []string        `json:"command"`
		Failed   string          `json:"failed,omitempty"`
		Remedy   string          `json:"remedy,omitempty"`
		Stopped  int             `json:"left,omitempty"` // endpoints, when the check was interrupted
		Counts   map[Verdict]int `json:"counts"`
		Controls []resultJSON    `json:"controls"`
		Results  []resultJSON    `json:"results"`
	}{1, r.Command, r.Failed, r.Remedy, r.Stopped, map[Verdict]int{}, []resultJSON{}, []resultJSON{}}
	for _, v := range Verdicts {
		report.Counts[v] = r.Count(v)
	}
	for i := range r.Controls {
		report.Controls = append(report.Controls, r.Controls[i].json())
	}
	for i := range r.Results {
		report.Results = append(report.Results, r.Results[i].json())
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	return encoder.Encode(report)
}

type (
	suiteXML struct {
		XMLName  xml.Name  `xml:"testsuite"`
		Name     string    `xml:"name,attr"`
		Tests    int       `xml:"tests,attr"`
		Failures int       `xml:"failures,attr"`
		Errors   int       `xml:"errors,attr"`
		Skipped  int       `xml:"skipped,attr"`
		Time     string    `xml:"time,attr"`
		Cases    []caseXML `xml:"testcase"`
	}
	caseXML struct {
		Name    string      `xml:"name,attr"`
		Class   string      `xml:"classname,attr"`
		Time    string      `xml:"time,attr"`
		Failure *messageXML `xml:"failure,omitempty"`
		Error   *messageXML `xml:"error,omitempty"`
		Skipped *messageXML `xml:"skipped,omitempty"`
		Output  string      `xml:"system-out,omitempty"`
	}
	messageXML struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes the report as test systems read it: unsafe is a failure, unclear is skipped, and controls that fail are
// an error. Of a strict report, all but ok is a failure, as its exit code says.
func (r *Report) JUnit(w io.Writer) error {
	suite := suiteXML{Name: "padlock lab: " + strings.Join(r.Command, " "), Time: fmt.Sprintf("%.3f", r.Took.Seconds())}
	if r.Failed != "" {
		suite.Tests, suite.Errors = 1, 1
		suite.Cases = []caseXML{{Name: "controls", Class: "padlock.lab", Time: "0", Error: &messageXML{Message: r.Failed, Type: "controls", Text: r.Remedy}}}
	}
	if r.Stopped > 0 {
		suite.Tests, suite.Errors = 1, 1
		suite.Cases = []caseXML{{Name: "all endpoints", Class: "padlock.lab", Time: "0", Error: &messageXML{Message: r.Summary(), Type: "interrupted"}}}
	}
	for i := range r.Results {
		result := &r.Results[i]
		e := result.Endpoint
		c := caseXML{Name: e.Name, Class: "padlock.lab." + string(e.Group), Time: fmt.Sprintf("%.3f", result.Outcome.Duration.Seconds()), Output: string(result.Verdict) + ": " + result.Reason}
		switch {
		case result.Verdict == Unsafe, r.Strict && result.Verdict != OK:
			c.Failure = &messageXML{Message: string(result.Expected) + ": " + result.Reason, Type: string(result.Verdict), Text: e.Wrong + " " + e.Consequence + " (" + e.Rule + ")"}
			suite.Failures++
		case result.Verdict == Unclear:
			c.Skipped = &messageXML{Message: result.Reason}
			suite.Skipped++
		}
		suite.Tests++
		suite.Cases = append(suite.Cases, c)
	}

	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", " ")
	if err := encoder.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// Markdown writes the report as a table.
func (r *Report) Markdown(w io.Writer) error {
	out := &lines{w: w}
	out.line("# padlock lab: `%s`", strings.NewReplacer("`", "'", "\n", " ").Replace(strings.Join(r.Command, " ")))
	out.line("")
	out.line("%s.", r.Summary())
	if r.Failed == "" {
		out.line("")
		out.line("| verdict | endpoint | expected | client | why |")
		out.line("|---|---|---|---|---|")
		for i := range r.Results {
			result := &r.Results[i]
			out.line("| %s | %s | %s | %s | %s |", result.Verdict, result.Endpoint.Name, result.Expected, result.did(), cell(result.Reason))
		}
	}
	return out.err
}

// cell is a text that stays in its cell, and is no HTML.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "`", "'").Replace(text)
}

// ListJSON writes what endpoints are.
func ListJSON(w io.Writer, endpoints []*Endpoint) error {
	type row struct {
		Name        string      `json:"name"`
		Host        string      `json:"host"`
		Group       Group       `json:"group"`
		Expected    Expectation `json:"expected"`
		Wrong       string      `json:"wrong"`
		Rule        string      `json:"rule"`
		Consequence string      `json:"consequence"`
	}
	var rows []row
	for _, e := range endpoints {
		rows = append(rows, row{e.Name, e.Hostname(), e.Group, e.Expect, e.Wrong, e.Rule, e.Consequence})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	return encoder.Encode(rows)
}
