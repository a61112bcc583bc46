package gateway

import "padlock/proxy/message"

// Action is what is done with a request: it is forwarded, redirected, or answered by padlock itself. It sends nothing
// to the client: its response is written by Gateway.write, and by nothing else. In the place of a response an error
// says what the client gets: a *StatusError, or one of the outcomes beside it. It is safe for use from many goroutines.
type Action interface {
	Answer(ctx *message.Context, x *Exchange) (*message.Response, error)
}

// ActionFunc is a function that is an Action.
type ActionFunc func(ctx *message.Context, x *Exchange) (*message.Response, error)

// Answer implements Action.
func (f ActionFunc) Answer(ctx *message.Context, x *Exchange) (*message.Response, error) {
	return f(ctx, x)
}

// Filter puts something before an action, or behind it: it may change the request, answer in the action's place, and
// look at the response.
type Filter func(Action) Action

// chain is an action behind filters, the first of which is the outermost.
func chain(action Action, filters []Filter) Action {
	for i := len(filters) - 1; i >= 0; i-- {
		action = filters[i](action)
	}
	return action
}

// before is a filter that looks at the request alone, and answers with an error those that go no further.
func before(look func(ctx *message.Context, x *Exchange) error) Filter {
	return func(next Action) Action {
		return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
			if err := look(ctx, x); err != nil {
				return nil, err
			}
			return next.Answer(ctx, x)
		})
	}
}
