//go:build !unix

package daemon

import "context"

func (r *restarter) watch(context.Context) {}
