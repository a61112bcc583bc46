# Each target only names a command of the language. The toolchain is the one that go.mod asks for.
export GOTOOLCHAIN := $(shell awk '$$1 == "toolchain" {print $$2}' go.mod)

.PHONY: build test lint fuzz bench soak

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o padlock ./cmd/padlock

test: lint
	bash e2e/install.sh
	go test -race ./...
	go test -race -tags e2e -timeout 40m ./e2e/...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt -w the files above"; exit 1; }
	go vet -tags e2e ./...
	go tool staticcheck -tags e2e ./...

fuzz:
	go test -fuzz FuzzRecords -fuzztime 60s ./handshake/wire
	go test -fuzz FuzzClientHello -fuzztime 60s ./handshake/wire
	go test -fuzz FuzzDissect -fuzztime 60s ./handshake
	go test -fuzz FuzzCertificate -fuzztime 60s ./handshake
	go test -fuzz FuzzCapture -fuzztime 60s ./handshake
	go test -fuzz FuzzExplain -fuzztime 60s ./handshake
	go test -fuzz FuzzParse -fuzztime 60s ./config
	go test -fuzz FuzzLabels -fuzztime 60s ./discovery
	go test -fuzz FuzzFile -fuzztime 60s ./certs
	go test -fuzz FuzzTranslate -fuzztime 60s ./certs/acme
	go test -fuzz FuzzConversation -fuzztime 60s ./proxy/http1
	go test -fuzz FuzzResponse -fuzztime 60s ./proxy/http1
	go test -fuzz FuzzChunks -fuzztime 60s ./proxy/http1
	go test -fuzz FuzzFrames -fuzztime 60s ./proxy/http2
	go test -fuzz FuzzFields -fuzztime 60s ./proxy/http2
	go test -fuzz FuzzTraceparent -fuzztime 60s ./tracing

bench:
	bash bench/install.sh
	go run ./bench -write docs/performance.md

# A hundred thousand requests of every kind, some of them aborted or cut short: nothing is lost, nothing is left.
soak:
	go test -run TestNothingIsLost -timeout 30m ./proxy -mixed 100000
