package sites

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"padlock/internal/revocation"
	"padlock/traffic"
)

// Trust returns the files that cannot be used now, and all revocation lists that are in force.
func (s *Snapshot) Trust(now time.Time) (t traffic.Trust) {
	for _, kept := range s.Files.Kept() {
		t.Unusable = append(t.Unusable, traffic.TrustFile{File: kept.File, Reason: kept.Err.Error()})
	}

	seen := map[*revocation.List]bool{}
	for _, policy := range s.policies {
		if policy.Auth == nil {
			continue
		}

		if missing := policy.Auth.missing; missing != nil {
			file := traffic.TrustFile{File: policy.Auth.ca, Reason: missing.Error()}
			if !slices.Contains(t.Unusable, file) {
				t.Unusable = append(t.Unusable, file)
			}
		}

		for _, list := range policy.Auth.lists {
			if seen[list] {
				continue
			}
			seen[list] = true
			t.Lists = append(t.Lists, traffic.RevocationList{File: list.File, Issuer: list.Issuer, Expires: list.Next})
			if list.Expired(now) {
				t.Unusable = append(t.Unusable, traffic.TrustFile{
					File: list.File, Reason: fmt.Sprintf("the revocation list of %q has expired at %s: all clients of this CA are refused", list.Issuer, list.Next.UTC().Format(time.RFC3339)),
				})
			}
		}
	}

	slices.SortStableFunc(t.Unusable, func(a, b traffic.TrustFile) int { return cmp.Compare(a.File, b.File) })
	slices.SortFunc(t.Lists, func(a, b traffic.RevocationList) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Issuer, b.Issuer), a.Expires.Compare(b.Expires))
	})
	return t
}
