# Each target only names a command of the language. The toolchain is the one that go.mod asks for.
export GOTOOLCHAIN := $(shell awk '$$1 == "toolchain" {print $$2}' go.mod)

.PHONY: build test test-long identity lint fuzz bench soak release licences vulncheck floods suites

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o padlock ./cmd/padlock

# Every promise, in minutes. make test RUN=TestSoak runs one test of any level.
# What runs them is compiled as most of what it compiles itself, so that nothing is compiled twice.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/padlock-tests
test:
	@GOCACHE="$(CACHE)/go-build" GOFLAGS="-trimpath -buildvcs=false" CGO_ENABLED=0 go build -o "$(CACHE)/testrun" ./internal/testrun
	"$(CACHE)/testrun" $(if $(RUN),-run '$(RUN)')

# The same promises with more of everything, in an hour: before a release.
test-long:
	go run ./internal/testrun -level long

# Nobody gets what is another's: a million requests over every combination of fronts, targets and what routes do. An hour or more.
identity:
	go test -tags e2e -v -run 'TestIdentity$$' -timeout 150m ./e2e -identity 1000000 -identity-whole

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt -w the files above"; exit 1; }
	go mod tidy -diff
	go run ./internal/lint
	@go run ./internal/shape

# Every parser of bytes from outside, each for FUZZTIME.
FUZZTIME ?= 60s
fuzz:
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sort | while IFS=: read -r file target; do \
		target=$${target#func }; echo "$$target $$(dirname $$file)"; \
		go test -run XXX -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s "$$(dirname $$file)" || exit 1; \
	done

bench:
	bash bench/install.sh
	go run ./bench -write docs/performance.md

# The public suites, a line each with its figure. TESTSSL=PATH scans with a testssl.sh that is newer than Debian's, and rates too.
suites:
	bash e2e/install.sh
	bash e2e/suites.sh $(TESTSSL)

# Everything at once for an hour, and again for ten minutes with the race detector: nothing fails, nothing is left.
soak:
	go test -run TestNothingIsLost -timeout 30m ./proxy -mixed 100000
	go test -tags e2e -v -run 'TestSoak$$' -timeout 90m ./e2e -soak 60m -soak-race=false
	go test -tags e2e -v -run 'TestSoak$$' -timeout 30m ./e2e -soak 10m

# Binaries, packages, bills of materials and their sums, in dist/: make release VERSION=1.2.3
release:
	packaging/release.sh "$(VERSION)"

# What the program is linked of, and under which licences; one that is not permissive is an error.
licences: build
	go run ./packaging/inventory padlock

# Known weaknesses in what padlock calls. The database is fetched anew; where it cannot be reached this fails, and does not pass.
vulncheck:
	go run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

# Each flood for ten seconds instead of one.
floods:
	go test -tags e2e -v -run 'TestFloods|TestSlowClients' -timeout 30m ./e2e -floods 10s
