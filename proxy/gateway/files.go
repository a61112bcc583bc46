package gateway

import (
	"errors"

	"padlock/internal/files"
	"padlock/proxy/message"
	"padlock/proxy/paths"
	"padlock/proxy/sites"
)

// filesBelow answers with the files below a directory.
type filesBelow struct {
	route *sites.Route
	serve message.RoundTripper
}

func newFiles(r *sites.Route, f *files.Files) filesBelow {
	return filesBelow{r, message.TryHTTP(f.Serve)}
}

// Answer implements Action. The name of the file is what routes go by, the path in its normal form: no other reading
// leads to another file.
func (f filesBelow) Answer(ctx *message.Context, x *Exchange) (*message.Response, error) {
	if x.request.Method != "GET" && x.request.Method != "HEAD" {
		return nil, notAllowed("Files can only be read", readOnly)
	}

	target := paths.Encode(x.path.Normal)
	if x.path.Query != "" {
		target += "?" + x.path.Query
	}

	if f.route.Strip {
		path, err := paths.Parse(target, paths.Raw)
		if err == nil {
			target, err = f.route.Pattern.Replace(&path, "/")
		}
		if err != nil {
			return nil, ambiguous(err)
		}
	}

	// A copy: only the file server goes by the path without its prefix.
	asked := *x.request
	asked.Target = target
	response, err := f.serve.RoundTrip(ctx, &asked, x)
	if errors.Is(err, message.ErrDeclined) || errors.Is(err, message.ErrTarget) {
		return nil, errNothing
	}

	return response, err
}
