#!/usr/bin/env bash
# Runs the public suites against padlock, and prints a line for each with its figure. Of one that fails, everything is printed.
# An argument is the path of a testssl.sh that is newer than Debian's.
set -u
cd "$(dirname "$0")/.."
failed=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT
suite() { # folder, test, and more for go test
  if (cd "$1" && go test -count=1 -tags e2e -timeout 10m -run "$2" "${@:3}") >"$out" 2>&1; then
    sed -n 's/^suite: //p' "$out"
  else
    failed=1
    cat "$out"
  fi
}
suite proxy '^TestH2spec$'
suite e2e '^TestTestsslFindsNothingToMend$' -args -long ${1:+-testssl "$(realpath "$1")"}
suite e2e '^TestWebSocketSuite$'
exit $failed
