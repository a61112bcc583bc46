package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"padlock/proxy/message"
)

// intercept puts the site's pages into the place of the responses that it names.
func intercept(next Action) Action {
	return ActionFunc(func(ctx *message.Context, x *Exchange) (*message.Response, error) {
		left := x.leftAlone()
		response, err := next.Answer(ctx, x)
		if err != nil || left || response.Tunnel != nil || x.site.Replaces(response.Status) == nil {
			return response, err
		}
		// A connection that is being authenticated goes on with this very response.
		if response.Fields.AuthenticatesConnection() || response.Fields.ContinuesAuthentication() || isStream(response.Fields) {
			return response, nil
		}

		discard(response)
		return nil, &StatusError{
			Status: response.Status, Text: "The application behind this address reports an error: " + strings.ToLower(http.StatusText(response.Status)),
			Fields: meant(response.Fields), Cause: fmt.Sprintf("the target has answered %d; a page of the site stands for it (intercept)", response.Status),
		}
	})
}

// leftAlone reports whether the client reads a response of the target otherwise than as a page: as the status of a
// call, as the answer to an upgrade, or as a part of content.
func (x *Exchange) leftAlone() bool {
	r := x.request
	_, ranged := r.Fields.Get("Range")
	return ranged || r.Upgrade != "" || x.rpc != ""
}

const discarded = 64 << 10 // bytes of a response at most

// discard reads what has come of a response, so that the target's connection can be used again. It waits for nothing:
// a target that is slow with its error is not to keep a visitor from the page.
func discard(response *message.Response) {
	body := response.Body
	defer body.Close()
	room := make([]byte, 4<<10)
	for read := 0; read < discarded; {
		known := response.ContentLength >= 0 && body.Received() >= response.ContentLength
		if body.Buffered() == 0 && !known {
			return
		}
		n, err := body.Read(room)
		if read += n; err != nil || n == 0 {
			return
		}
	}
}

// meant are the fields of a target's response that are for the client's program whatever the page shows.
func meant(f message.Fields) (kept message.Fields) {
	for _, field := range f {
		switch {
		case message.Is(field.Name, "Retry-After"), message.Is(field.Name, "WWW-Authenticate"), message.Is(field.Name, "Allow"),
			// A script of another origin cannot even see the status without them.
			len(field.Name) > len(cors) && strings.EqualFold(field.Name[:len(cors)], cors), message.Is(field.Name, "Vary"):
			kept = append(kept, field)
		}
	}
	return kept
}

const cors = "Access-Control-"
