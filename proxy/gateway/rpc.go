package gateway

import (
	"fmt"
	"strconv"
	"strings"

	"padlock/proxy/message"
)

// rpcKind is the Content-Type of answers to a call of gRPC or gRPC-Web, without parameters; "": the request is none.
func rpcKind(r *message.Request) string {
	// Calls are POST, so that other requests cost no search.
	if r.Method != "POST" {
		return ""
	}
	value := r.Fields.Value("Content-Type")
	if _, _, web := webForm(value); !web && !r.Fields.GRPC() {
		return ""
	}
	kind, _, _ := strings.Cut(strings.ToLower(value), ";")
	return strings.TrimSpace(kind)
}

// rpcResponse is the error for a client of gRPC, which reads a status of gRPC and no page: a response that consists of
// trailers alone (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "Trailers-Only"). The same head tells
// clients of gRPC-Web.
func (e *StatusError) rpcResponse(x *Exchange, text string) *message.Response {
	// Logs and metrics go by why the request was refused.
	x.refused = e.Status
	fields := message.Fields{
		{Name: "Content-Type", Value: x.rpc},
		{Name: "Grpc-Status", Value: strconv.Itoa(rpcStatus(e.Status))},
		{Name: "Grpc-Message", Value: rpcMessage(text)},
	}
	return x.whole(200, append(fields, e.Fields...), nil)
}

// The statuses of gRPC that padlock gives.
const (
	rpcUnknown           = 2
	rpcPermissionDenied  = 7
	rpcResourceExhausted = 8
	rpcUnimplemented     = 12
	rpcInternal          = 13
	rpcUnavailable       = 14
	rpcUnauthenticated   = 16
)

// rpcStatus is what clients of gRPC make of an HTTP status
// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md), so that a client reads what it would have
// read of the page. 429 is UNAVAILABLE, as in Envoy: clients send such a call again later. 413 is what servers of gRPC
// say of a message that is too large, and which the table does not have.
func rpcStatus(status int) int {
	switch status {
	case 400:
		return rpcInternal
	case 401:
		return rpcUnauthenticated
	case 403:
		return rpcPermissionDenied
	case 404:
		return rpcUnimplemented
	case 413:
		return rpcResourceExhausted
	case 429, 502, 503, 504:
		return rpcUnavailable
	}
	return rpcUnknown
}

// rpcMessage encodes a text as gRPC demands: what is not printable ASCII, and %.
func rpcMessage(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
