# Every target is one line; the scripts say what they do. See CONTRIBUTING.md.
export CGO_ENABLED ?= 0
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: all build static release release-check demo test test-gpu race noasm fuzz bench lint fmt generate check arm64 cross clean bench-llamacpp bench-check lab
all: build

build: ## the one binary, ./weft
	$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o weft .

static: ## ./weft without GPUs, which needs no dynamic linker: for musl and empty images
	$(GO) build -tags static -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o weft .

release: ## archives for every system and SHA256SUMS, into dist/
	$(GO) run ./scripts/release -version "$(VERSION)" -out dist

release-check: ## one archive built twice, the second time without a cache: the same bytes
	$(GO) run ./scripts/release -version "$(VERSION)" -out .cache/release -targets linux/amd64 -twice

demo: ## three nodes on loopback answer one prompt
	scripts/demo

test: ## all tests, coverage, and what could not be run
	scripts/test

test-gpu: build ## replies of real processes, the processor's against each card's; MODEL=file.gguf
	scripts/test-gpu

race: ## the packages with goroutines under the race detector
	scripts/race

noasm: ## kernels and stages in portable Go
	$(GO) test -tags noasm ./kernels/... ./shard/...

fuzz: ## every fuzz target, FUZZ runs each
	scripts/fuzz $(FUZZ)

bench: ## tokens/s solo and split, hop cost, start-up, memory
	scripts/bench

bench-llamacpp: ## beside llama.cpp on the same files; needs root
	scripts/bench-llamacpp

bench-check: ## kernels against the last recorded run
	scripts/bench-check

lab: ## nodes in network namespaces, links cut for minutes; needs root on Linux
	$(GO) test -count=1 ./scripts/netlab/... && WEFT_TEST_LONG=1 $(GO) test -count=1 -v -timeout 60m -run '^TestLab' ./e2e

lint: ## golangci-lint with .golangci.yml
	CGO_ENABLED=0 $(GO) tool -modfile=tools/lint.mod golangci-lint run ./...

fmt: ## gofumpt says what it would change
	scripts/fmt

generate: ## protobuf code, assembly and PTX
	$(GO) generate ./...

arm64: ## kernels and stages as arm64 code under qemu-user, with amd64's replies
	scripts/arm64

cross: ## everything compiles for the other systems
	scripts/cross

check: fmt lint cross noasm race fuzz arm64 ## what CI runs beside the tests

clean:
	rm -rf weft dist coverage.out .cache .demo
