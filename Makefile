# The two commands that a newcomer needs:
#   make run     build everything, boot a Debian kernel in QEMU, show the boot report, give a shell
#   make test    everything that CI runs
# Both install what is missing when run as root on Debian, and name it otherwise.

GO      ?= go
# The binaries are static and the same wherever they are built.
BUILD   = CGO_ENABLED=0 $(GO) build -trimpath $(TAGS) -ldflags='-s -w$(ENTRY)'
SETUP   := $(GO) run ./tests/setup
ASSETS  := image/assets/built
FUZZTIME ?= 30s
ROUNDS  ?= 10
# make run: arguments for hapax run, such as RUN="--smp 8 --disk root.img"
RUN     ?=
# make storm: options of tests/storm, such as STORM="--cpus 8,64 --kernels stats,nomerge --contenders hapax,udevd,oracle"
STORM   ?=

# make soak: how many boots
SOAK    ?= 1000

# make install: where to
PREFIX  ?= /usr/local
DESTDIR ?=
# make deb: of the package
VERSION ?= 0.1.0
# make test: how long go test may take
TIMEOUT ?= 24m

.PHONY: help build run image test test-full test-upcalls unit race vet lint fmt man fuzz probe-flips differential \
	bench bench-index bench-boot bench-image bench-upcall bench-width storm soak cross check install deb clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# make build: other architectures whose images hapax can make, such as ARCHES="arm64 riscv64"
ARCHES  ?=

build: bin/hapax ## build bin/init and bin/extra (go into images), bin/u-root (the rescue shell) and bin/hapax (embeds all)

.PHONY: bin/init bin/extra bin/hapax
# It begins in init/entry_*.s where there is one for the architecture, else in the Go runtime.
bin/init: ENTRY = $(if $(wildcard init/entry_$(shell $(GO) env GOARCH).s), -E hapax_start)
# A codec that it links draws in cryptography that it never uses: purego leaves its assembly out.
bin/init: TAGS = -tags=purego
bin/init:
	$(BUILD) -o $@ ./init

bin/extra:
	$(BUILD) -o $@ ./init/extra

FOREIGN = $(ARCHES:%=bin/%/init) $(ARCHES:%=bin/%/extra)
.PHONY: $(FOREIGN)
bin/%/init: ENTRY = $(if $(wildcard init/entry_$*.s), -E hapax_start)
$(ARCHES:%=bin/%/init): TAGS = -tags=purego
$(ARCHES:%=bin/%/init): bin/%/init:
	GOARCH=$* $(BUILD) -o $@ ./init
$(ARCHES:%=bin/%/extra): bin/%/extra:
	GOARCH=$* $(BUILD) -o $@ ./init/extra

bin/u-root: image/shell/main.go image/shell/commands.go image/shell/go.mod
	cd image/shell && $(GO) run . -o ../../$@

bin/hapax: bin/init bin/extra bin/u-root $(FOREIGN)
	cp bin/init bin/extra bin/u-root bin/u-root.commands $(ASSETS)/
	rm -rf $(ASSETS)/*/ && for arch in $(ARCHES); do cp -r bin/$$arch $(ASSETS)/; done
	$(BUILD) -o $@ ./image/cmd/hapax

image: build ## build build/universal.img for Debian's 6.1 cloud kernel
	$(SETUP) --for run -- sh -c 'bin/hapax build --force --mode universal --shell u-root --modules-dir "$$HAPAX_MODULES_DIR" build/universal.img'

run: image ## boot build/universal.img in QEMU on this terminal (Ctrl-A x quits)
	$(SETUP) --for run -- sh -c 'bin/hapax run --kernel "$$HAPAX_KERNEL" --append "hapax.report=console" $(RUN) build/universal.img'

# The time limits of guests are for those that hang; on a host that does more than these tests nothing else hits them.
test: export HAPAX_TEST_SLOW ?= 3
test: build vet cross ## everything that CI runs: vet, cross-builds, unit, namespace and QEMU tests
	cd tests/storm/plot && $(GO) vet . && $(GO) test .
	$(SETUP) --for test -- $(GO) test -race -timeout $(TIMEOUT) ./...

unit: ## the tests that need no root and no QEMU, in seconds
	$(GO) test -short ./...

test-full: ## make test, with the tests that take minutes each
	HAPAX_TEST_FULL=1 $(MAKE) test TIMEOUT=6h

test-upcalls: build ## the tests of the kernel's own requests, then their storm on 64 processors and a thousand rounds of it
	HAPAX_TEST_SLOW=10 $(SETUP) --for test -- $(GO) test -count=1 -timeout 2h -v -run='Upcalls|Circles|UnknownType' ./tests
	HAPAX_TEST_SLOW=10 HAPAX_UPCALL_CPUS=64 $(SETUP) --for test -- $(GO) test -count=1 -timeout 2h -v -run='UpcallStorm' ./tests
	HAPAX_TEST_SLOW=10 HAPAX_UPCALL_ROUNDS=1000 $(SETUP) --for test -- $(GO) test -count=1 -timeout 2h -v -run='UpcallStorm' ./tests

race: ## unit and namespace tests under the race detector
	$(GO) test -race $$($(GO) list ./... | grep -v '/tests$$')

vet: ## gofmt, go vet, go mod tidy
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run make fmt'; exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff

lint: ## golangci-lint with the rules of .golangci.yml, if it is installed
	golangci-lint run

fmt: ## gofmt everything
	gofmt -w $$(git ls-files '*.go')

cross: ## compile for the architectures that are not tested here
	GOARCH=arm64 $(GO) vet ./init/... ./image/... ./uevent ./coldplug ./modload/...
	GOARCH=riscv64 $(GO) vet ./init/... ./image/... ./uevent ./coldplug ./modload/...

man: ## write the man pages of the commands and of hapax.toml into man/
	$(GO) test ./image/cmd/hapax -run=TestManPages -update

fuzz: ## each fuzz target for FUZZTIME (30s)
	$(GO) run ./tests/fuzzall -time $(FUZZTIME)

probe-flips: ## 100,000 single bit flips of each file system's head, and every truncation of it, through the prober
	HAPAX_PROBE_FLIPS=100000 $(SETUP) --for test -- $(GO) test -count=1 -timeout 3h -v -run='TestProbe(Flips|EveryTruncation)' ./init/internal/rootdev

differential: ## the comparisons with modprobe on complete module trees, ROUNDS (10) times with other strings and sets
	HAPAX_ROUNDS=$(ROUNDS) $(SETUP) --for test -- $(GO) test -count=1 -timeout 2h -v -run='LikeModprobe|ByModprobe' ./modload/modindex

bench: ## the Go benchmarks
	$(SETUP) --for test -- $(GO) test -run='^$$' -bench=. -benchmem ./uevent ./coldplug ./modload/... ./init/internal/engine ./image

bench-index: ## the module index beside libkmod and a plain list, on the full tree; for benchstat -col /by
	$(SETUP) --for test -- $(GO) test -count=10 -benchtime=40ms -run='^$$' -bench=Index ./modload/modindex

bench-boot: build ## guest clock at /sbin/init beside the floor, on a deterministic clock
	$(SETUP) --for test -- $(GO) test -count=1 -v -run='^$$' -bench=Boot -benchtime=1x ./tests

bench-image: build ## an image in each compression: size, time to build, guest time to unpack and load
	$(SETUP) --for test -- $(GO) test -count=1 -v -timeout 1h -run='^$$' -bench=Image -benchtime=1x ./tests

bench-upcall: build ## a request of the kernel for a live module, by hapax's helper and by Debian's modprobe
	$(SETUP) --for test -- $(GO) test -count=1 -v -run='^$$' -bench=Upcall -benchtime=1x ./tests

bench-width: build ## time until settled with each number of loads at a time, on 1, 8 and 64 processors
	$(SETUP) --for test -- $(GO) test -count=1 -v -timeout 3h -run='^$$' -bench=Width -benchtime=1x ./tests

storm: build ## hapax beside udevd, mdev, modprobe and an oracle on machines of many processors (docs/storm.md)
	$(SETUP) --for storm -- $(GO) run ./tests/storm $(STORM)

soak: build ## SOAK (1000) boots one after the other, as many at a time as there are cores: none hangs, each module is loaded once
	HAPAX_TEST_FULL=1 HAPAX_SOAK_ROUNDS=$(SOAK) $(SETUP) --for test -- $(GO) test -count=1 -timeout 48h -v -run='^TestSoak$$' ./tests

check: test ## the same as test

install: ## install bin/hapax, man pages, completions and kernel hooks: DESTDIR= PREFIX=/usr/local
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' packaging/install.sh

deb: build ## build/hapax_VERSION_ARCH.deb
	mkdir -p build && packaging/deb/build.sh $(VERSION) build

clean: ## remove bin/; build/ holds downloads and stays
	rm -rf bin $(ASSETS)/*/ $(ASSETS)/init $(ASSETS)/extra $(ASSETS)/u-root $(ASSETS)/u-root.commands
