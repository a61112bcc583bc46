package gateway

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"padlock/proxy/message"
	"padlock/proxy/sites"
	"padlock/proxy/upstream"
)

// forwardAuth asks a service whether a request may go on, before any of its content is read. Any answer but a 2xx is
// the client's; where none comes, the request goes nowhere.
func (h *Gateway) forwardAuth(f *sites.ForwardAuth) Filter {
	return func(next Action) Action {
		return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
			// Before the service is asked, as it may be a site of this padlock that asks itself.
			if err := h.noLoop(ctx, x); err != nil {
				return nil, err
			}
			refusal, err := h.ask(ctx, x, f)
			if refusal != nil || err != nil {
				return refusal, err
			}
			return next.Answer(ctx, x)
		})
	}
}

// question is a request to a service on behalf of a client's request.
type question struct {
	client  *message.Context
	ctx     message.Context
	attempt upstream.Attempt
	timer   *time.Timer
	late    atomic.Bool
}

// begin has the question end with the client's request, or when its time is up. It reports false where the client has
// gone.
func (q *question) begin(timeout time.Duration) bool {
	if !q.client.Hold(message.Closer(q.ctx.Cancel)) {
		return false
	}
	q.timer = time.AfterFunc(timeout, func() {
		q.late.Store(true)
		q.ctx.Cancel()
	})
	return true
}

// end lets go of the client's request, and gives the service's place back.
func (q *question) end() {
	q.timer.Stop()
	q.client.Release()
	q.attempt.End()
}

// ask returns what the service says to the client, or nothing where the request may go on.
func (h *Gateway) ask(ctx *message.Context, x *Exchange, f *sites.ForwardAuth) (*message.Response, error) {
	q := &question{client: ctx}
	if !q.begin(f.Timeout) {
		return nil, errGone
	}

	response, err := f.Group.RoundTrip(&q.ctx, h.question(x, f), ignored{}, &q.attempt)
	if err != nil {
		q.end()
		return nil, h.unasked(ctx, x, q, err)
	}

	response.Fields.RemoveHopByHop()
	if response.Status/100 != 2 {
		x.note(fmt.Sprintf("forward_auth: %s answered %d", q.attempt.Target(), response.Status))
		if x.rpc != "" {
			defer q.end()
			return nil, rpcRefusal(response)
		}
		return x.refusal(q, response), nil
	}

	defer q.end()
	defer response.Body.Close()
	// Read to its end, so that the connection can be asked again. An answer that breaks off is none.
	n, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxAgreement+1))
	if err == nil && n > maxAgreement {
		err = errAgreement
	}
	if err != nil {
		return nil, h.unasked(ctx, x, q, q.attempt.Failed(err))
	}

	x.agreed(f, response.Fields)
	return nil, nil
}

// maxAgreement is how much content an answer may have that lets a request through, which nobody reads.
const maxAgreement = 64 << 10

var errAgreement = fmt.Errorf("its 2xx answer has more than %d KiB of content, which no client gets: is it the application itself?", maxAgreement>>10)

// question is what the service gets: all that it needs to know of the request, but its content.
func (h *Gateway) question(x *Exchange, f *sites.ForwardAuth) *message.Request {
	r := x.request
	fields := slices.Clone(r.Fields)
	fields.RemoveHopByHop()
	fields.DelFunc(func(name string) bool {
		plain, _ := message.Alias(name)
		// These are how a client proves who it is, whatever becomes of them.
		if message.Is(name, "Authorization") || message.Is(name, "Cookie") {
			return false
		}
		return notAsked.Has(plain) || claims(plain) || x.route.Vouched(name) || x.unwanted(name)
	})

	x.introduce(&fields)
	host, proto := fields.Value("X-Forwarded-Host"), fields.Value("X-Forwarded-Proto")
	fields = append(fields, message.Field{Name: "X-Forwarded-Method", Value: r.Method}, message.Field{Name: "X-Forwarded-Uri", Value: r.Target},
		// Authelia's and Authentik's endpoints for nginx go by these.
		message.Field{Name: "X-Original-Method", Value: r.Method}, message.Field{Name: "X-Original-URL", Value: proto + "://" + host + r.Target},
		message.Field{Name: loopField, Value: h.self})
	fields = append(fields, r.Conn.Identity...)
	x.forwardTrace(&fields)
	// No connection of the service's is ever one client's own.
	return &message.Request{Method: "GET", Scheme: r.Scheme, Host: r.Host, Target: f.URI, Proto: "HTTP/1.1", Fields: fields, Client: r.Client, Shared: true}
}

// claims reports whether a field says what the service is asked for, or tells it.
func claims(plain string) bool {
	return message.ClaimsIdentity(plain) || message.Variable(plain) || message.ClaimsMethod(plain) || message.ClaimsRequest(plain)
}

// notAsked are fields about the content, which the service does not get, and about what the client has of the answer
// already.
var notAsked = message.NewNames("Content-Length", "Content-Encoding", "Content-Range", "Content-MD5", "Content-Digest", "Repr-Digest", "Digest", "Expect",
	"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range", "If")

// agreed takes from a service's answer what it says of the client.
func (x *Exchange) agreed(f *sites.ForwardAuth, answer message.Fields) {
	x.proof.asked = f.ForwardAuth
	for _, field := range answer {
		switch {
		case message.Is(field.Name, "Set-Cookie"):
			x.cookies = append(x.cookies, field.Value)
		case slices.ContainsFunc(f.Copy, func(name string) bool { return message.Is(name, field.Name) }):
			x.proof.copied = append(x.proof.copied, field)
		}
	}
	if user, ok := single(answer.Lines(f.User)); ok && f.User != "" {
		x.user = user
	}
}

// refusal is the service's answer as the client's.
func (x *Exchange) refusal(q *question, response *message.Response) *message.Response {
	// Its head has come in time. What follows may take as long as the client reads it.
	q.timer.Stop()
	response.Body = &answer{response.Body, q}
	if x.request.Method == "HEAD" {
		_ = response.Body.Close()
		response.Body = &content{}
	}
	return response
}

// rpcRefusal is the service's answer for a call, whose client can neither read a page nor go where a redirect leads: to
// a login.
func rpcRefusal(response *message.Response) error {
	page := status(response.Status, "The service that decides about access to this address refuses this call")
	if response.Status/100 == 3 {
		page.Status = 401
	}
	page.Fields = meant(response.Fields)
	for line := range response.Fields.Lines("Set-Cookie") {
		page.Fields.Add("Set-Cookie", line)
	}
	discard(response)
	return page
}

// answer is the content of a service's answer, whose end is that of the question.
type answer struct {
	message.Body
	q *question
}

// Close implements message.Body.
func (a *answer) Close() error {
	err := a.Body.Close()
	a.q.end()
	return err
}

// unasked is what a client gets where the service has not answered.
func (h *Gateway) unasked(ctx *message.Context, x *Exchange, q *question, err error) error {
	if ctx.Err() != nil {
		return errGone
	}

	page := status(502, "The service that decides about access to this address did not answer")
	page.Cause = "forward_auth: " + err.Error()
	var failure *upstream.Error
	if errors.As(err, &failure) && h.Details {
		page.Detail = "padlock asked " + failure.Target.String() + ": " + failure.Reason() + "."
	}
	if q.late.Load() || failure != nil && failure.Timeout() {
		page.Status, page.Text = 504, "The service that decides about access to this address took too long to answer"
		page.Cause = "forward_auth: no answer in time: " + err.Error()
	}
	return page
}
