package lazy

import "testing"

// An expression is compiled when it is first asked for, and once.
func TestAnExpressionIsCompiledForTheFirstWhoNeedsIt(t *testing.T) {
	broken, number := Regexp(`(`), Regexp(`^[0-9]+$`)
	if first := number(); first != number() || !first.MatchString("42") || first.MatchString("x") {
		t.Error("it is another expression")
	}
	defer func() {
		if recover() == nil {
			t.Error("a pattern that is no expression was taken")
		}
	}()
	broken()
}
