package lastgood

import (
	"errors"
	"testing"
)

func TestAFileThatCannotBeUsedKeepsItsValue(t *testing.T) {
	t.Parallel()
	bad := errors.New("damaged")
	get := func(v *Values, file, value string) string {
		got, err := Get(v, file, "text", func() (string, error) {
			if value == "" {
				return "", bad
			}
			return value, nil
		})
		if err != nil {
			return err.Error()
		}
		return got
	}
	first := After(nil)
	if a, again, b := get(first, "a", "1"), get(first, "a", "2"), get(first, "b", ""); a != "1" || again != "1" || b != "damaged" || len(first.Kept()) != 0 {
		t.Errorf("at first: %s %s %s %v", a, again, b, first.Kept())
	}
	second := After(first)
	if a, b := get(second, "a", ""), get(second, "b", "3"); a != "1" || b != "3" || len(second.Kept()) != 1 || second.Kept()[0] != (Kept{"a", bad}) {
		t.Errorf("then: %s %s %v", a, b, second.Kept())
	}
	if n, err := Get(second, "a", "number", func() (int, error) { return 0, bad }); !errors.Is(err, bad) {
		t.Errorf("as something else: %d %v", n, err)
	}
	third := After(second)
	if a := get(third, "a", ""); a != "1" || len(third.Kept()) != 1 {
		t.Errorf("still: %s %v", a, third.Kept())
	}
	fourth := After(third)
	fourth.Forget()
	if a := get(fourth, "a", ""); a != "damaged" {
		t.Errorf("when what was before is forgotten: %s", a)
	}
	if a := get(After(second), "a", "4"); a != "4" {
		t.Errorf("mended: %s", a)
	}
}
