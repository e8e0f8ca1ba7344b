# SPDX-License-Identifier: Apache-2.0

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
# Of packages: a release is a tag.
VERSION ?= $(or $(patsubst v%,%,$(shell git describe --exact-match --tags --match 'v[0-9]*' 2>/dev/null)),0.1.0~git$(shell git log -1 --format=%cd.%h --abbrev=7 --date=format:%Y%m%d%H%M))
FUZZTIME ?= 30s
HOURS ?= 50000

# What the tests need beside Go, as Debian packages.
TEST_PACKAGES := keepalived frr nftables iproute2 bpftool util-linux iputils-ping mandoc man-db
# What "make generate" needs: the compiler is named by version, for its output
# is compared byte for byte.
GENERATE_PACKAGES := clang-19 llvm-19 libbpf-dev linux-libc-dev

# make deb PACKAGE_ARCH=arm64 makes one for another machine.
PACKAGE_ARCH ?= $(shell go env GOARCH)

LINT := go tool -modfile=tools/lint/go.mod

# Their daemons aren't started: the tests start their own, in namespaces.
define install-packages
	missing=""; for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "these packages are needed, install them:$$missing" >&2; exit 1; }; \
		echo "installing:$$missing"; \
		[ -e /usr/sbin/policy-rc.d ] || { trap 'rm -f /usr/sbin/policy-rc.d' EXIT; printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }; \
		{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; } >bin/apt.log 2>&1 || { cat bin/apt.log >&2; exit 1; }; \
	fi
endef

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build bin/failoverd and bin/failoverctl
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

.PHONY: generate
generate: ## Compile the XDP program anew (installs clang-19 if it is missing)
	@mkdir -p bin
	@$(call install-packages,$(GENERATE_PACKAGES))
	go generate ./bpf

.PHONY: manual
manual: ## Write into pkg/manual and the reference what the code defines: keys, flags, counters and the like
	go test ./pkg/config -count=1 -run '^TestReference$$' -update
	go test ./cmd/... -count=1 -run '^TestManual$$' -update

.PHONY: demo
demo: build ## Watch an address move from a dead host to a living one (root, a minute)
	@go run ./tools/demo --failoverd bin/failoverd

.PHONY: test
test: build ## Run all tests (root; installs keepalived and what else they need)
	@[ "$$(id -u)" = 0 ] || { echo "make test needs root: it attaches XDP programs and makes network namespaces; run sudo make test" >&2; exit 1; }
	@$(call install-packages,$(TEST_PACKAGES))
	@echo "running all tests, this takes some minutes"
	@go vet ./...
	@go test -json -timeout 20m -parallel 6 ./... | tee bin/test.json | go run ./tools/testsum -strict=$(if $(CI),true,false)

bin/test.json: go.mod $(shell find bpf cmd pkg tools -type f -not -name LEDGER.md)
	@$(MAKE) --no-print-directory test

.PHONY: conformance
conformance: bin/test.json ## Show which test proves which demand of the RFCs (root; runs make test if need be)
	@go run ./tools/conformance -markdown tools/conformance/LEDGER.md bin/test.json

.PHONY: interop
interop: build ## Play failovers with keepalived and FRR and judge what was on the wire (root, six minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/interop --failoverd bin/failoverd

.PHONY: simulate
simulate: ## Simulate HOURS (50000) of routers on LANs that lose, delay and break; replay with SEED
	go test ./pkg/router -count=1 -timeout 2h -run '^TestSimulation$$' -v $(if $(SEED),-sim.seed=$(SEED) -sim.trace,-sim.hours=$(HOURS))

.PHONY: chaos
chaos: build ## Kill daemons, cut power, reload and play stranger at random, ROUNDS (200) times; replay with SEED (root, 25 minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/chaos --failoverd bin/failoverd --rounds $(or $(ROUNDS),200) $(if $(SEED),--seed $(SEED))

.PHONY: test-kernels
test-kernels: ## Test the packet path on Debian's kernels, in qemu, or on those of SUITES (root, four minutes)
	@mkdir -p bin
	@$(call install-packages,qemu-system-x86 busybox-static cpio)
	@go run ./tools/kernels $(if $(SUITES),-suites $(SUITES))

.PHONY: test-package
test-package: deb ## Install, upgrade and purge the .deb on two booted Debian machines, which fail over (root, a minute)
	@$(call install-packages,systemd-container mmdebstrap lintian)
	lintian --allow-root --fail-on error,warning bin/failoverd_*.deb
	$(subst $(VERSION),$(VERSION)+newer,$(NFPM)) --packager deb --target bin/newer.deb
	@go run ./tools/machine --deb bin/failoverd_*.deb --newer bin/newer.deb

BENCH = --failoverd bin/failoverd --commit '$(VERSION)'
BENCH_PLOT = cd tools/bench/plot && go run . --in $(CURDIR)/bin/bench.json --out $(CURDIR)/bin/bench.png && echo "a picture of it is in bin/bench.png"

.PHONY: bench
bench: build ## Measure beside keepalived, and the code that runs per packet; ONLY and ROUNDS (root, half an hour)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/bench $(BENCH) --rounds $(or $(ROUNDS),0) --only '$(ONLY)'
	@$(BENCH_PLOT)
	@go test -run '^$$' -bench . -benchmem ./pkg/... | grep -E '^(Benchmark|pkg:|cpu:)'

.PHONY: bench-quick
bench-quick: build ## Measure the most important of it once (root, two minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/bench $(BENCH) --quick
	@$(BENCH_PLOT)

.PHONY: bench-fence
bench-fence: build ## Measure how long a hung or killed Active answers on, beside keepalived (root, two minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/bench --failoverd bin/failoverd --rounds $(or $(ROUNDS),5) --only '^Fence$$'

.PHONY: bench-bystander
bench-bystander: build ## Measure what it costs the interface's other traffic (root, five minutes; ROUNDS=40)
	@go run ./tools/bench --failoverd bin/failoverd --rounds $(or $(ROUNDS),40) --only '^Bystander$$'

.PHONY: bench-checks
bench-checks: build ## Measure 1,000 checks under 200 routers, beside keepalived (root, three minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/bench --failoverd bin/failoverd --only '^Checks$$'

.PHONY: lint
lint: ## Check style and the import rules
	@test -z "$$($(LINT) gofumpt -l bpf cmd pkg tools | tee /dev/stderr)" || { echo "gofumpt would change these files: run go tool -modfile=tools/lint/go.mod gofumpt -w FILE" >&2; exit 1; }
	$(LINT) golangci-lint run ./...

.PHONY: fuzz
fuzz: ## Fuzz each decoder, and the XDP program against it, for FUZZTIME (30s; root)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin

.PHONY: man
man: build ## Write the manual pages to bin/man and the shells' completions to bin/completions
	@rm -rf bin/man
	@mkdir -p bin/completions/{bash,zsh,fish}
	@go run ./tools/manual --out bin/man --version '$(VERSION)' --date "$$(git log -1 --format=%cs)" pkg/manual/*.md
	@for p in failoverd failoverctl; do \
		bin/$$p completion bash >bin/completions/bash/$$p; \
		bin/$$p completion zsh >bin/completions/zsh/_$$p; \
		bin/$$p completion fish >bin/completions/fish/$$p.fish; \
	done

# Where each of what "make man" writes is installed.
SHARED := man/failoverd.8:man/man8/ man/failoverctl.8:man/man8/ man/failoverd.yaml.5:man/man5/ \
	$(foreach p,migrate security api,man/failoverd-$p.7:man/man7/) \
	$(foreach p,failoverd failoverctl,completions/bash/$p:bash-completion/completions/ \
		completions/zsh/_$p:zsh/site-functions/ completions/fish/$p.fish:fish/vendor_completions.d/)

.PHONY: install
install: man ## Install both, their manual and the systemd unit to PREFIX (/usr/local)
	install -D -m 0755 bin/failoverd $(DESTDIR)$(PREFIX)/sbin/failoverd
	install -D -m 0755 bin/failoverctl $(DESTDIR)$(PREFIX)/bin/failoverctl
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/local|$(PREFIX)|' tools/package/failoverd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/failoverd.service
	@for s in $(SHARED); do install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/$${s#*:} bin/$${s%%:*}; done
	@[ -n "$(DESTDIR)" ] || echo "installed; write /etc/failoverd/failoverd.yaml (failoverctl reference), then: systemctl daemon-reload && systemctl enable --now failoverd"

.PHONY: uninstall
uninstall: ## Remove what make install has installed
	rm -f $(DESTDIR)$(PREFIX)/sbin/failoverd $(DESTDIR)$(PREFIX)/bin/failoverctl $(DESTDIR)$(PREFIX)/lib/systemd/system/failoverd.service
	@for s in $(SHARED); do rm -f $(DESTDIR)$(PREFIX)/share/$${s#*:}$$(basename $${s%%:*}); done

# What the packages have in common, below bin/stage.
.PHONY: stage
stage:
	rm -rf bin/stage
	@$(MAKE) --no-print-directory install DESTDIR=bin/stage PREFIX=/usr
	for p in sbin/failoverd bin/failoverctl; do \
		CGO_ENABLED=0 GOARCH=$(PACKAGE_ARCH) go build -trimpath -ldflags '-s -w -X github.com/failoverd/failoverd/pkg/config.release=$(VERSION)' -o bin/stage/usr/$$p ./cmd/$${p#*/}; \
	done
	install -D -m 0644 tools/package/sysusers.conf bin/stage/usr/lib/sysusers.d/failoverd.conf
	install -d bin/stage/usr/share/doc/failoverd/examples
	bin/failoverctl reference >bin/stage/usr/share/doc/failoverd/examples/failoverd.yaml
	rm -r bin/stage/usr/share/zsh # each distribution has another place for them
	gzip -9n bin/stage/usr/share/man/man*/*
	git log -1 --format='failoverd ($(VERSION)-1) unstable; urgency=medium%n%n  * Version $(VERSION).%n%n -- The failoverd authors <failoverd@users.noreply.github.com>  %cD' | gzip -9n >bin/changelog.gz

NFPM = SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) VERSION='$(VERSION)' PACKAGE_ARCH=$(PACKAGE_ARCH) go tool -modfile=tools/package/go.mod nfpm package --config tools/package/nfpm.yaml

.PHONY: deb
deb: stage ## Make a package for Debian and Ubuntu
	@rm -f bin/failoverd_*.deb
	$(NFPM) --packager deb --target bin/

.PHONY: rpm
rpm: stage ## Make a package for Fedora, RHEL and SUSE
	@rm -f bin/failoverd-*.rpm
	$(NFPM) --packager rpm --target bin/

.PHONY: snap
snap: stage ## Make a snap, in the place of the Rust failover's
	@command -v snap >/dev/null || { $(call install-packages,snapd squashfs-tools); }
	@rm -rf bin/snap bin/failover_*.snap
	cp -r tools/package/snap bin/snap
	mkdir bin/snap/usr
	cp -r bin/stage/usr/{bin,sbin} bin/snap/usr/
	sed -i 's|@VERSION@|$(VERSION)|; s|@ARCH@|$(PACKAGE_ARCH)|' bin/snap/meta/snap.yaml
	snap pack bin/snap bin

.PHONY: image
image: stage ## Make a container image, an OCI archive, without Docker
	@rm -rf bin/image bin/failoverd-*.oci.tar
	mkdir -p bin/image/{etc/failoverd,run,usr}
	cp -r bin/stage/usr/{bin,sbin} bin/image/usr/
	go run ./tools/image --root bin/image --out bin/failoverd-$(VERSION).oci.tar --name 'failoverd:$(subst ~,-,$(subst +,-,$(VERSION)))' --arch $(PACKAGE_ARCH) --entrypoint /usr/sbin/failoverd --epoch $$(git log -1 --format=%ct)
