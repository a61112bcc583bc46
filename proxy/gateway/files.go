package gateway

import (
	"errors"
	"net/url"
	"slices"

	"padlock/internal/files"
	"padlock/proxy/message"
	"padlock/proxy/sites"
)

// filesBelow answers with the files below a directory.
type filesBelow struct {
	h     *Gateway
	route *sites.Route
	files *files.Files
	serve message.RoundTripper
}

func newFiles(h *Gateway, r *sites.Route, f *files.Files) filesBelow {
	return filesBelow{h, r, f, message.TryHTTP(f.Serve)}
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
	if err := f.h.underway.add(ctx, x, f.h.Routes); err != nil {
		return nil, err
	}

	if response := f.whole(x.request, below); response != nil {
		return response, nil
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

// partial are the fields that ask for a part of a file, or for it under a condition (RFC 9110 sections 13 and 14).
var partial = message.NewNames("If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Range")

// whole answers a request for all of a file that lies where its path says; nil: the answer may be another.
func (f filesBelow) whole(r *message.Request, below string) *message.Response {
	if r.Method != "GET" || slices.ContainsFunc(r.Fields, func(field message.Field) bool { return partial.Has(field.Name) }) {
		return nil
	}
	asked, err := url.PathUnescape(below)
	if err != nil {
		return nil
	}
	file := f.files.Whole(asked, slices.Collect(r.Fields.Lines("Accept-Encoding")))
	if file == nil {
		return nil
	}

	response := &message.Response{Status: 200, ContentLength: file.Size, Body: fileBody{file}}
	response.Fields = make(message.Fields, 0, len(file.Fields)+4)
	for _, field := range file.Fields {
		response.Fields.Add(field[0], field[1])
	}
	return response
}

// fileBody is a file as a response's content.
type fileBody struct{ *files.Whole }

// Trailers implements message.Body.
func (fileBody) Trailers() message.Fields { return nil }

// Buffered implements message.Body: no part of a file is waited for.
func (b fileBody) Buffered() int { return int(min(b.Left(), 1<<30)) }

// Received implements message.Body.
func (b fileBody) Received() int64 { return b.Size - b.Left() }
