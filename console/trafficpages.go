package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"padlock/traffic"
)

// trafficFunctions are for the templates of traffic.
func trafficFunctions() map[string]any {
	return map[string]any{
		"histogram": histogram, "plural": plural,
	}
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// within is an upper bound of a part of durations, as exact as their buckets are; where nothing was, there is none.
func within(d *traffic.Distribution, part float64) string {
	if i := d.Bucket(part); i >= 0 {
		return bound(i)
	}
	return "–"
}

// bound is the upper end of a bucket in words.
func bound(bucket int) string {
	sign, seconds := "≤ ", traffic.Bounds[min(bucket, len(traffic.Bounds)-1)]
	if bucket >= len(traffic.Bounds) {
		sign = "> "
	}
	if seconds < 1 {
		return sign + strconv.FormatFloat(seconds*1000, 'g', -1, 64) + " ms"
	}
	return sign + strconv.FormatFloat(seconds, 'g', -1, 64) + " s"
}

// trafficPage is what the page of all traffic shows.
type trafficPage struct {
	head
	Status                 *Status
	Text                   string // part of names that are shown
	Whole                  *hour
	Charts                 []chart
	Routes, Sites, Targets trafficTable
}

// trafficTable is some of the subjects, those first that somebody should look at.
type trafficTable struct {
	Rows []trafficRow
	More int
}

// trafficRow is one subject.
type trafficRow struct {
	*hour
	At     string // where its details are
	ID     string // in the page
	Health *TargetStatus
}

// worst are the routes that stand first.
const worst = 20

func (a *Admin) trafficPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	text := strings.ToLower(strings.TrimSpace(q.Get("text")))
	data := &trafficPage{head: a.head("Traffic", "/traffic"), Status: a.status(), Text: q.Get("text"), Whole: &hour{}}
	if a.history != nil {
		data.fill(a.history.hours(func(subject) bool { return true }), text)
	}

	switch q.Get("fragment") {
	case "":
		a.pages.show(w, http.StatusOK, "traffic", data)
	case "charts":
		a.pages.show(w, http.StatusOK, "traffic-charts", data.Charts)
	default:
		a.pages.show(w, http.StatusOK, "traffic-tables", data)
	}
}

func (p *trafficPage) fill(all []*hour, text string) {
	kinds := map[string][]*hour{}
	for _, h := range all {
		if h.Kind == "site" {
			p.Whole.join(h)
		}
		switch {
		case !h.matches(text):
		// A route that nobody has asked for is neither slow nor failing.
		case h.Kind == "route" && h.All.Count == 0:
		default:
			kinds[h.Kind] = append(kinds[h.Kind], h)
		}
	}

	health := map[string]*TargetStatus{}
	for i := range p.Status.Targets {
		health[p.Status.Targets[i].Name] = &p.Status.Targets[i]
	}
	p.Charts = p.Whole.charts()
	p.Routes = table(kinds["route"], worst, slowest, nil)
	p.Sites = table(kinds["site"], listed, busiest, nil)
	p.Targets = table(kinds["target"], listed, func(a, b *hour) int {
		return cmp.Or(healthRank(health[a.Name])-healthRank(health[b.Name]), busiest(a, b))
	}, health)
}

// healthRank is less for targets that somebody should look at.
func healthRank(t *TargetStatus) int {
	if t != nil && t.State != "healthy" {
		return 0
	}
	return 1
}

// busiest puts those first that fail, then those with most requests.
func busiest(a, b *hour) int {
	return cmp.Or(cmp.Compare(b.Failed.Count, a.Failed.Count), cmp.Compare(b.All.Count, a.All.Count), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Name, b.Name))
}

// slowest puts those first that fail, then the slowest.
func slowest(a, b *hour) int {
	return cmp.Or(cmp.Compare(b.Failed.Count, a.Failed.Count), cmp.Compare(b.Took.Bucket(0.99), a.Took.Bucket(0.99)), cmp.Compare(b.Took.Bucket(0.5), a.Took.Bucket(0.5)), busiest(a, b))
}

func table(all []*hour, most int, order func(a, b *hour) int, health map[string]*TargetStatus) (t trafficTable) {
	slices.SortFunc(all, order)
	for _, h := range all[:min(len(all), most)] {
		at := h.at()
		t.Rows = append(t.Rows, trafficRow{hour: h, At: at, ID: "t" + url.QueryEscape(at), Health: health[h.Name]})
	}
	t.More = len(all) - len(t.Rows)
	return t
}

// at is where a subject's details are.
func (s subject) at() string {
	q := url.Values{"name": {s.Name}}
	if s.Site != "" {
		q.Set("site", s.Site)
	}
	return "/traffic/" + s.Kind + "?" + q.Encode()
}

// trafficDetail is one subject with its pictures.
type trafficDetail struct {
	head
	*hour
	Heading  string
	Facts    []fact
	Charts   []chart
	Measured string // what a duration is
	Routes   trafficTable
	Uptime   string
}

func (a *Admin) trafficDetail(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	of := subject{r.PathValue("kind"), q.Get("site"), q.Get("name")}
	var is *hour
	var routes []*hour
	if a.history != nil {
		all := a.history.hours(func(s subject) bool {
			return s == of || of.Kind == "site" && s.Kind == "route" && s.Site == of.Name
		})
		for _, h := range all {
			switch {
			case h.subject == of:
				is = h
			case h.All.Count > 0:
				routes = append(routes, h)
			}
		}
	}
	fragment := q.Get("fragment") != ""
	if is == nil && fragment {
		a.pages.show(w, http.StatusNotFound, "traffic-unknown", nil)
		return
	}
	if is == nil {
		a.pages.show(w, http.StatusNotFound, "traffic-gone", a.head("Not known", ""))
		return
	}

	since, _ := a.history.since(of)
	d := &trafficDetail{
		head: a.head(of.Name, ""), hour: is, Charts: is.charts(), Measured: "from the request's header to the end of the response",
		Routes: table(routes, worst, slowest, nil), Uptime: age(time.Since(a.started)), Heading: strings.TrimSpace(of.Site + " " + of.Name),
	}
	unanswered := "Failed (5xx)"
	if of.Kind == "target" {
		unanswered, d.Measured = "Unanswered", "from sending the request to the response's header"
	}
	// They stand on the page already, if that shows another table.
	for i := range d.Routes.Rows {
		d.Routes.Rows[i].ID = ""
	}
	d.Facts = []fact{
		{strconv.Itoa(is.All.Count), "Requests in the last hour"}, {strconv.Itoa(is.Failed.Count), unanswered}, {is.Median(), "Median"},
		{is.Most(), "99 % within"}, {fmt.Sprintf("%d, %d of them failed", since.All, since.Failed), "Since the start"},
	}

	name := "traffic-detail-page"
	if fragment {
		name = "traffic-detail"
	}
	a.pages.show(w, http.StatusOK, name, d)
}

// charts are the pictures of an hour.
func (h *hour) charts() []chart {
	fine := h.All
	for i := range fine.Minutes {
		fine.Minutes[i] -= h.Refused.Minutes[i] + h.Failed.Minutes[i]
	}
	fine.Count -= h.Refused.Count + h.Failed.Count
	fine.Name, h.Refused.Name, h.Failed.Name = "answered", "4xx", "failed"
	if h.Kind == "target" {
		h.Failed.Name = "unanswered"
	}
	return []chart{
		countChart("Requests", shown(fine, h.Refused, h.Failed)),
		countChart("Errors", shown(h.Refused, h.Failed)),
		h.latency(),
	}
}

// shown are the shares of which there is something.
func shown(all ...Share) (out []Share) {
	for _, s := range all {
		if s.Count > 0 {
			out = append(out, s)
		}
	}
	return out
}

// latency is a bar a minute, as high as the bucket in which 99 % end, and within it one to the median.
func (h *hour) latency() chart {
	c := chart{Title: "Latency", Words: "nothing yet"}
	for i, took := range h.took {
		if took == nil || took.Count == 0 {
			continue
		}
		for series, part := range map[int]float64{1: 0.99, 0: 0.5} {
			height := bucketHeight(took.Bucket(part))
			c.Bars = append(c.Bars, bar{Series: series, X: float64(i) * 4, Y: 39.5 - height, Height: height})
		}
	}
	// The median stands before the other.
	slices.SortStableFunc(c.Bars, func(a, b bar) int { return b.Series - a.Series })
	if len(c.Bars) > 0 {
		c.Legend = []legend{{0, "median", h.Median()}, {1, "99 %", h.Most()}}
		c.Words = "median " + c.Legend[0].Part + ", 99 % " + c.Legend[1].Part
	}
	return c
}

// bucketHeight is a bucket's place in a chart. Bounds grow by about the same factor, so the chart is a logarithmic one.
func bucketHeight(bucket int) float64 {
	return float64(bucket+1) / float64(len(traffic.Bounds)+1) * chartHeight
}

// Median and Most are what half of the durations, and 99 % of them, are within.
func (h *hour) Median() string { return within(&h.Took, 0.5) }
func (h *hour) Most() string   { return within(&h.Took, 0.99) }

// sparkline is an hour in one line of a table: lines from the bottom to a height, as a path each.
type sparkline struct{ Words, Fine, Bad, Slow string }

// Spark is the hour as lines.
func (h *hour) Spark() sparkline {
	highest := 1
	for _, n := range h.All.Minutes {
		highest = max(highest, n)
	}
	var fine, bad, slow strings.Builder
	line := func(b *strings.Builder, minute int, height float64) {
		fmt.Fprintf(b, "M%d 39v-%s", 2+4*minute, strconv.FormatFloat(max(height, 1.5), 'f', 1, 64))
	}
	for i, n := range h.All.Minutes {
		if n == 0 {
			continue
		}
		line(&fine, i, float64(n)/float64(highest)*chartHeight)
		if failed := h.Failed.Minutes[i]; failed > 0 {
			// One failure beside thousands of requests stays visible.
			line(&bad, i, max(5, float64(failed)/float64(highest)*chartHeight))
		}
		if took := h.took[i]; took != nil && took.Count > 0 {
			line(&slow, i, bucketHeight(took.Bucket(0.99)))
		}
	}
	return sparkline{plural(h.All.Count, "request") + ", " + strconv.Itoa(h.Failed.Count) + " failed", fine.String(), bad.String(), slow.String()}
}

// durations is a bar of a histogram.
type durations struct {
	Name, Part string
	Count      uint64
	Width      float64 // of 600
}

// histogram are the buckets from the first to the last in which something was.
func histogram(d *traffic.Distribution) (steps []durations) {
	first, last, highest := -1, -1, uint64(1)
	for i, n := range d.Buckets {
		if n == 0 {
			continue
		}
		if first < 0 {
			first = i
		}
		last, highest = i, max(highest, n)
	}
	for i := max(first, 0); i <= last; i++ {
		n := d.Buckets[i]
		s := durations{Name: bound(i), Count: n, Width: 600 * float64(n) / float64(highest), Part: percent(n, d.Count)}
		if n > 0 {
			// What is rare stays visible.
			s.Width = max(s.Width, 3)
		}
		steps = append(steps, s)
	}
	return steps
}

// percent is a part in words, which is never 0 where there is something.
func percent(n, of uint64) string {
	switch {
	case of == 0 || n == 0:
		return "–"
	case n*200 < of:
		return fmt.Sprintf("%.2g %%", 100*float64(n)/float64(of))
	}
	return fmt.Sprintf("%.0f %%", 100*float64(n)/float64(of))
}
