package gateway

import (
	"errors"

	"padlock/internal/files"
	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// filesBelow answers with the files below a directory.
type filesBelow struct {
	h     *Gateway
	route *sites.Route
	serve message.RoundTripper
}

func newFiles(h *Gateway, r *sites.Route, f *files.Files) filesBelow {
	return filesBelow{h, r, message.TryHTTP(f.Serve)}
}

// Answer implements Action. The name of the file is what routes go by, the path in its normal form: no other reading
// leads to another file.
func (f filesBelow) Answer(ctx *message.Context, x *Exchange) (*message.Response, error) {
	if x.request.Method != "GET" && x.request.Method != "HEAD" {
		return nil, notAllowed("Files can only be read", readOnly)
	}

	query := ""
	if x.path.Query != "" {
		query = "?" + x.path.Query
	}

	below, slash, err := f.route.Below(&x.path)
	if err != nil {
		return nil, ambiguous(err)
	}
	// As for every directory: without the slash at the end, relative links in the index would lead elsewhere.
	if slash != "" {
		return x.redirected(301, slash+query, true)
	}

	// A large file takes long, and a reload may let the client in no more.
	if !f.h.underway.add(ctx, x, f.h.Routes) {
		return nil, errDismissed
	}

	// A copy: only the file server goes by the path without its prefix.
	asked := *x.request
	asked.Target = below + query
	response, err := f.serve.RoundTrip(ctx, &asked, x)
	if errors.Is(err, message.ErrDeclined) || errors.Is(err, message.ErrTarget) {
		return nil, errNothing
	}

	return response, err
}
