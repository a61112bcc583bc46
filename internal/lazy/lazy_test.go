package lazy

import "testing"

// An expression is compiled when it is first asked for, and once.
func TestAnExpressionIsCompiledForTheFirstWhoNeedsIt(t *testing.T) {
	broken, number := Regexp(`(`), Regexp(`^[0-9]+$`)
	if number() != number() || !number().MatchString("42") || number().MatchString("x") {
		t.Error("it is another expression")
	}
	defer func() {
		if recover() == nil {
			t.Error("a pattern that is no expression was taken")
		}
	}()
	broken()
}
