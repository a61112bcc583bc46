package lab

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"padlock/handshake"
)

// Verdict is what a client's behaviour at an endpoint means.
type Verdict string

const (
	OK        Verdict = "ok"
	Unsafe    Verdict = "unsafe"     // it accepts what it must refuse
	Weak      Verdict = "weak"       // it accepts what it should refuse
	TooStrict Verdict = "too strict" // it refuses what it must or should accept
	Unclear   Verdict = "unclear"
)

// Outcome is how a client told its end.
type Outcome struct {
	Exit     int           `json:"exit"`
	Signal   string        `json:"signal,omitempty"` // that ended it by itself, such as segmentation fault
	Killed   bool          `json:"killed,omitempty"` // at the timeout
	Duration time.Duration `json:"-"`
	Output   string        `json:"output,omitempty"` // the end of it
	Failed   string        `json:"failed,omitempty"` // why it could not be run

	script bool   // it is a browser's script, and has no exit code
	stray  string // where it went instead of the endpoint; "": nowhere that is known
}

// exit is the exit code as reasons have it.
func (o Outcome) exit() string {
	if o.script {
		return ""
	}
	return fmt.Sprintf(" (exit code %d)", o.Exit)
}

// Result is one client at one endpoint.
type Result struct {
	Endpoint *Endpoint
	Expected Expectation // of this very client
	Verdict  Verdict
	Reason   string
	Accepted bool // whether the client went along; only of meaning if the verdict is not Unclear
	Outcome  Outcome
	Visits   []Visit
}

// calibration is what the controls have shown of a client.
type calibration struct {
	mute string // why its exit code tells nothing; "": it is 0 at the good endpoints, and something else at the bad one
}

// judge compares what a client did with what it should have done.
func judge(e *Endpoint, visits []Visit, o Outcome, c calibration) Result {
	r := Result{Endpoint: e, Expected: e.Expect, Outcome: o, Visits: visits}
	if why := unsuited(visits); why != "" && e.Expect == May && o.Failed == "" {
		r.Verdict, r.Reason = OK, why+", which it need not"
		return r
	}
	if why := unseen(e, visits, o, c); why != "" {
		r.Verdict, r.Reason = Unclear, why
		return r
	}

	accepted, how := e.accepted(visits, o, c)
	r.Accepted, r.Reason = accepted, how
	if excused := excused(visits); excused != "" {
		r.Expected, r.Reason = May, how+"; "+excused+", so it may"
	}
	wants := r.Expected == MustAccept || r.Expected == ShouldAccept
	switch {
	case !accepted && o.Signal != "":
		// A crash is no refusal, and may be worse than none.
		r.Verdict, r.Reason = Unclear, "it crashed: "+o.Signal+quoted(o)
	case r.Expected == May:
		r.Verdict = OK
	case accepted && r.Expected == MustRefuse:
		r.Verdict = Unsafe
	case accepted && r.Expected == ShouldRefuse:
		r.Verdict = Weak
	case !accepted && o.Killed && wants:
		r.Verdict, r.Reason = Unclear, "it was still busy at the time limit"
	case !accepted && wants:
		r.Verdict = TooStrict
	default:
		r.Verdict = OK
	}
	return r
}

// unseen says why nothing can be concluded.
func unseen(e *Endpoint, visits []Visit, o Outcome, c calibration) string {
	if o.Failed != "" {
		return "the command could not be run: " + o.Failed
	}
	if len(visits) == 0 {
		return cmp.Or(o.stray, "it made no connection") + quoted(o)
	}
	if why := unsuited(visits); why != "" {
		return "this endpoint cannot be shown to it: " + why
	}
	if o.Killed && e.proof != ByEnd && e.Expect != MustAccept && e.Expect != ShouldAccept && !anyVisit(visits, hasData) {
		return "it was still busy at the time limit, without a request"
	}

	switch e.proof {
	case ByReport, ByExit:
		if c.mute != "" {
			return "only its exit code could tell, and " + c.mute
		}
		if o.Killed {
			return "it was still busy at the time limit"
		}
	}
	if e.proof == ByReport && !anyVisit(visits, hasData) && o.Exit == 0 {
		return "it sent no request, and reports success"
	}
	return ""
}

// unsuited says why an endpoint could not be shown at any visit; "": it could.
func unsuited(visits []Visit) (why string) {
	for _, v := range visits {
		if why = v.Unsuited; why == "" {
			return ""
		}
	}
	return why
}

// excused says why a client may do as it likes; "": it may not. A client with several connections is excused by those on
// which it has gone along.
func excused(visits []Visit) (why string) {
	relevant := visits
	if went := slices.DeleteFunc(slices.Clone(visits), func(v Visit) bool { return !v.Data && !v.Finished && !v.Obeyed }); len(went) > 0 {
		relevant = went
	}
	for _, v := range relevant {
		if why = v.Excused; why == "" {
			return ""
		}
	}
	return why
}

func hasData(v Visit) bool     { return v.Data }
func hasObeyed(v Visit) bool   { return v.Obeyed }
func hasFinished(v Visit) bool { return v.Finished }

func anyVisit(visits []Visit, is func(Visit) bool) bool {
	for _, v := range visits {
		if is(v) {
			return true
		}
	}
	return false
}

// accepted reports whether the client went along with the endpoint, and how that is known.
func (e *Endpoint) accepted(visits []Visit, o Outcome, c calibration) (bool, string) {
	switch e.proof {
	case ByReport, ByExit:
		if o.Exit == 0 {
			return true, "it reports success" + o.exit()
		}
		return false, refusal(visits, o)
	case ByEnd:
		if o.Killed {
			return true, fmt.Sprintf("it waited until it was killed, after %.0f s", o.Duration.Seconds())
		}
		return false, fmt.Sprintf("it gave up after %.1f s%s", o.Duration.Seconds(), o.exit())
	}

	wants := e.Expect == MustAccept || e.Expect == ShouldAccept
	switch {
	case anyVisit(visits, hasData) && wants && c.mute == "" && o.Exit != 0:
		return false, "it sent its request, and then failed" + o.exit() + quoted(o)
	case anyVisit(visits, hasData) && o.Exit != 0 && c.mute == "":
		return true, "it sent its request, though it failed afterwards" + o.exit()
	case anyVisit(visits, hasData):
		return true, "it sent its request"
	case !wants && anyVisit(visits, hasObeyed):
		return true, "it did what the server must not ask for"
	case !wants && e.proof == ByFinished && anyVisit(visits, hasFinished):
		return true, "it completed its side of the handshake"
	}
	return false, refusal(visits, o)
}

// refusal says how a client refused.
func refusal(visits []Visit, o Outcome) string {
	exit := o.exit()
	for _, v := range visits {
		if v.Alert != "" {
			return "it refused with the alert " + v.Alert + exit + quoted(o)
		}
	}
	for _, v := range visits {
		if f := v.failure(); f != nil && f.By == handshake.Server && slices.Contains(misfits, f.AlertName) {
			return "the server has nothing that it offers: " + f.AlertName + exit
		}
	}
	if anyVisit(visits, hasData) {
		return "it sent its request, and reports a failure" + exit + quoted(o)
	}
	return "it closed the connection without a request" + exit + quoted(o)
}

// misfits are the server's alerts for a client that offers nothing which the endpoint has.
var misfits = []string{"handshake_failure", "protocol_version", "insufficient_security", "certificate_required", "no_application_protocol"}

// failure is what the handshake log says of how it failed; nil if it did not.
func (v *Visit) failure() *handshake.Failure {
	if v.Event == nil {
		return nil
	}
	return v.Event.Failure
}

// telling are words of lines that say what went wrong.
var telling = []string{"error", "Error", "ERROR", "ERR_", "alert", "problem", "SSL", "certificate"}

// quoted is the line of a client's output that says the most: the last one with a telling word, else the last.
func quoted(o Outcome) string {
	line := ""
	for text := range strings.Lines(o.Output) {
		text = strings.TrimSpace(text)
		tells := slices.ContainsFunc(telling, func(word string) bool { return strings.Contains(text, word) })
		if tells || text != "" && line == "" {
			line = text
		}
	}
	if line == "" {
		return ""
	}
	letters := []rune(line)
	return ": " + string(letters[:min(len(letters), 160)])
}

// compare withdraws what was concluded from a refusal of a client that refuses the same endpoint without its fault, or has
// not met that.
func compare(results map[string]*Result) {
	for _, r := range results {
		if r.Endpoint.basis == "" || r.Accepted || r.Verdict == Unclear {
			continue
		}
		base := results[r.Endpoint.basis]
		switch {
		case base == nil:
			r.Verdict, r.Reason = Unclear, "it refuses this; "+r.Endpoint.basis+", which does not have this fault, it has not met"
		case base.Verdict == Unclear || !base.Accepted:
			r.Verdict, r.Reason = Unclear, "it refuses "+base.Endpoint.Name+", too, which does not have this fault"
		}
	}
}
