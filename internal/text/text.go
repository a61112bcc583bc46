// Package text prepares what people read.
package text

import (
	"fmt"
	"strings"
)

// Summary is a list that stays short.
func Summary(names []string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}
