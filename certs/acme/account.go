package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// errForgotten ends an attempt whose account the CA does not know any more. The next one registers another.
var errForgotten = errors.New("the CA does not know the account any more")

// accountLock is held by who quarantines an account, so that nobody does it to the account that took its place.
const accountLock = "forgotten_acme_account"

// isAccount reports whether a key is one of an account's two values.
func isAccount(key string) bool {
	return strings.HasPrefix(key, "acme/") && strings.Contains(key, "/users/")
}

// forget is asked to delete an account that the CA has forgotten. certmagic would register another then, go on with
// the one that it has in hand, and delete the other too, so this attempt ends here. An account that another order or
// node has registered meanwhile stays.
func (s *slot) forget(ctx context.Context, v *atomicStore, key string) error {
	o := s.order
	if o == nil || o.account == "" {
		return v.backend.Delete(ctx, key)
	}
	o.forgotten = true
	if err := v.backend.Lock(ctx, accountLock); err != nil {
		return err
	}
	defer func() { _ = v.backend.Unlock(context.WithoutCancel(ctx), accountLock) }()

	folder := path.Dir(key)
	keys, err := v.backend.List(ctx, folder, true)
	if errors.Is(err, fs.ErrNotExist) {
		return errForgotten
	}
	if err != nil {
		return err
	}

	values, same, err := o.accountValues(ctx, v, keys)
	if err != nil {
		return err
	}
	if !same {
		return errForgotten
	}

	o.log.Warn("the CA does not know the account any more; it is set aside, and another is registered", "name", o.name, "account", o.account)
	aside := fmt.Sprintf("%s%s-account/", quarantineFolder, time.Now().UTC().Format("20060102T150405.000"))
	for key, data := range values {
		if err := v.backend.Store(ctx, aside+key, data); err != nil {
			return err
		}
	}

	if err := v.backend.Delete(ctx, folder); err != nil {
		return err
	}

	return errForgotten
}

// accountValues reads an account's values, and reports whether it is still the one that the order used.
func (o *order) accountValues(ctx context.Context, v *atomicStore, keys []string) (values map[string][]byte, same bool, err error) {
	values = map[string][]byte{}
	for _, key := range keys {
		data, err := v.backend.Load(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, err
		}

		var account acme.Account
		same = same || path.Ext(key) == ".json" && json.Unmarshal(data, &account) == nil && account.Location == o.account
		values[key] = data
	}

	return values, same, nil
}
