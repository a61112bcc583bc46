package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"

	"padlock/handshake"
)

// order logs the stages of one order as they happen. certmagic writes them to its log, which ends in core.
type order struct {
	log     *slog.Logger
	name    string
	begin   time.Time
	replace *Pair
	store   *atomicStore
	later   *later
	abandon context.CancelFunc

	// What certmagic has logged, on the order's own goroutine.
	accepted  bool   // the CA has made an order of it
	account   string // that the CA has forgotten
	forgotten bool   // and that is to be another one
	replaces  string // key of the CA that gets to know what is replaced
	refused   bool   // and that has refused the order

	mu      sync.Mutex
	issuers []asked   // the CAs that are tried, the one that is asked now first
	wait    time.Time // the earliest time at which that one will be asked again, when it said so
}

// asked is a CA of an order.
type asked struct{ key, name string }

// Stages of an order, after RFC 8555 section 7.1.6.
const (
	stageAccount     = "account"
	stageOrder       = "order"
	stageValid       = "authorization already valid"
	stageChallenge   = "challenge offered"
	stageValidation  = "validation seen" // by the node that the CA came to
	stageAuthorized  = "authorization"
	stageFinalised   = "finalised"
	stageCertificate = "certificate"
)

func (o *order) stage(stage string, attrs ...any) {
	o.mu.Lock()
	attrs = append([]any{"name", o.name, "stage", stage, "issuer", o.issuers[0].name, "elapsed", time.Since(o.begin).Round(time.Millisecond)}, attrs...)
	o.mu.Unlock()
	o.log.Info("certificate order", attrs...)
}

// validated logs that a CA has come to this node for the answer to a challenge, whichever node has offered it.
func validated(log *slog.Logger, challenge, host, remote string) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	log.Info("certificate order", "name", handshake.Escape(host), "stage", stageValidation, "challenge", challenge, "remote", remote)
}

// end translates what went wrong. The last issuer's error counts; those before it are logged as they happen.
func (o *order) end(err error) error {
	if err == nil {
		return nil
	}
	if o.forgotten {
		return errForgotten
	}
	return o.translate(err)
}

// translate is Translate, with the time that the CA has named, until which it is left alone for this name.
func (o *order) translate(err error) error {
	err = Translate(o.name, err)
	var problem *Error
	if !errors.As(err, &problem) {
		return err
	}

	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wait.After(problem.Wait) {
		problem.Wait = o.wait
	}

	if !problem.Wait.IsZero() {
		// Remembered per CA and name: other names may be ordered there meanwhile, and this one elsewhere.
		o.later.note(left(o.issuers[0].key, o.name), earliest(problem.Wait, time.Now().Add(waitMost)))
	}

	return err
}

// refusesReplacing reports whether a CA may have refused an order because of the certificate that it is said to
// replace.
func refusesReplacing(err error) bool {
	p, ok := findProblem(err)
	return ok && p.status != http.StatusTooManyRequests && p.status != http.StatusServiceUnavailable && p.kind != "rateLimited"
}

// errAlreadyReplaced ends an order that another node has been faster with.
var errAlreadyReplaced = errors.New("replaced meanwhile")

// event is certmagic's OnEvent. cert_obtaining comes under the name's lock, before anything is ordered.
func (s *slot) event(ctx context.Context, event string, data map[string]any) error {
	o := s.order
	if o == nil {
		return nil
	}

	switch event {
	case "cert_obtaining":
		// The name's lock is held now. Another node may have renewed while this one waited for it.
		if forced, _ := data["forced"].(bool); forced && o.replace != nil {
			b, err := o.store.storedCert(ctx, o.replace.Issuer, o.name)
			if err != nil {
				return err
			}
			if current, err := b.open(o.name); err == nil && !current.Leaf.Equal(o.replace.Leaf) {
				return errAlreadyReplaced
			}
		}
	case "cert_obtained":
		o.stage(stageCertificate)
	}

	return nil
}

// core is a zapcore.Core that hears the stages of a slot's order. All else that certmagic says is left out: its
// errors are returned.
type core struct{ slot *slot }

func (core) Enabled(zapcore.Level) bool { return true }

func (c core) With(fields []zapcore.Field) zapcore.Core { return c }

func (c core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(e, c)
}

func (core) Sync() error { return nil }

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	// The responses carry Retry-After, which certmagic's errors leave out.
	if e.Message == "http request" {
		c.slot.responded(fields)
		return nil
	}

	o := c.slot.order
	if o == nil {
		return nil
	}

	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoder)
	}

	field := func(name string) string {
		value, ok := encoder.Fields[name]
		if !ok {
			return ""
		}
		return handshake.Escape(fmt.Sprint(value))
	}

	switch {
	case e.Message == "new ACME account registered":
		o.stage(stageAccount, "detail", "registered")
	case e.Message == "using ACME account":
		o.stage(stageAccount, "account", field("account_id"))
	case e.Message == "ACME account does not exist on server; attempting to recreate":
		o.account = field("account_id")
	case e.Message == "creating order":
		o.stage(stageOrder)
	case e.Message == "authorization already valid":
		o.accepted = true
		o.stage(stageValid)
	case e.Message == "trying to solve challenge":
		o.accepted = true
		o.stage(stageChallenge, "challenge", field("challenge_type"))
	case e.Message == "authorization finalized":
		o.stage(stageAuthorized, "status", field("authz_status"))
	case e.Message == "validations succeeded; finalizing order":
		o.accepted = true
		o.stage(stageFinalised)
	case e.Message == "could not get certificate from issuer":
		o.failed(fields, field("error"))
	}

	return nil
}

// failed ends what one issuer was asked. The last one's error is the order's own.
func (o *order) failed(fields []zapcore.Field, text string) {
	err, known := errorField(fields)
	o.refused = o.refused || known && o.issuers[0].key == o.replaces && !o.accepted && refusesReplacing(err)
	if o.forgotten || o.refused {
		// The order is repeated with the same issuer before another one is asked.
		o.abandon()
		return
	}

	if len(o.issuers) == 1 {
		return
	}

	problem := fmt.Errorf("%s", text)
	if known {
		problem = o.translate(err)
	}

	o.mu.Lock()
	issuer := o.issuers[0].name
	// certmagic goes on with the next issuer by itself.
	o.issuers, o.wait, o.accepted = o.issuers[1:], time.Time{}, false
	o.mu.Unlock()
	o.log.Warn("an issuer gave no certificate; the next is asked", "name", o.name, "issuer", issuer, "error", problem)
}

func errorField(fields []zapcore.Field) (error, bool) {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			return err, true
		}
	}
	return nil, false
}

func splitHostPort(address string) (host, port string, err error) {
	if address == "" {
		return "", "", errors.New("no address")
	}
	return net.SplitHostPort(address)
}
