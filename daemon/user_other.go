//go:build !unix

package daemon

import "errors"

func (a *account) become() error { return errors.ErrUnsupported }
