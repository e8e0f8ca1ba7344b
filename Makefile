# SPDX-License-Identifier: Apache-2.0

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
# The version of packages. A release is a tag. A version with a tilde sorts before the release.
VERSION ?= $(or $(subst -,~,$(patsubst v%,%,$(shell git describe --exact-match --tags --match 'v[0-9]*' 2>/dev/null))),0.1.0~git$(shell git log -1 --format=%cd.%h --abbrev=7 --date=format:%Y%m%d%H%M))
FUZZTIME ?= 30s
HOURS ?= 50000

# The Debian packages that the tests need.
TEST_PACKAGES := keepalived frr nftables iproute2 bpftool util-linux iputils-ping mandoc man-db haproxy nginx
# The Debian packages that "make generate" needs. The compiler has a version, because CI compares
# its output byte for byte.
GENERATE_PACKAGES := clang-19 llvm-19 libbpf-dev linux-libc-dev

# The architecture of packages, for example make deb PACKAGE_ARCH=arm64.
PACKAGE_ARCH ?= $(shell go env GOARCH)
# The architectures of releases and images.
ARCHS ?= amd64 arm64
# The Debian suite of the shell in an image.
SUITE ?= bookworm
# The directory for packages, images and tarballs.
OUT ?= bin

LINT := go tool -modfile=tools/lint/go.mod

# policy-rc.d keeps apt from starting the daemons. The tests start their own, in namespaces.
define install-packages
	missing=""; for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "install these packages, or what your distribution calls them:$$missing" >&2; exit 1; }; \
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
generate: ## Compile the BPF programs (installs clang-19 if it is missing)
	@mkdir -p bin
	@$(call install-packages,$(GENERATE_PACKAGES))
	go generate ./bpf

.PHONY: manual
manual: ## Update the generated parts of pkg/manual and the reference: keys, flags, counters and the like
	go test ./pkg/config -count=1 -run '^TestReference$$' -update
	go test ./cmd/... -count=1 -run '^TestManual$$' -update

.PHONY: demo
demo: build ## Show a failover between two hosts in namespaces (root, a minute)
	@go run ./tools/demo --failoverd bin/failoverd

# Tests with dozens of daemons each run after the others, so that both have enough processor time.
CROWDED := ^TestSameFile$$

.PHONY: test
test: build ## Run all tests (root; installs keepalived and other packages that they need)
	@[ "$$(id -u)" = 0 ] || { echo "make test needs root, because it attaches XDP programs and makes network namespaces: run sudo make test" >&2; exit 1; }
	@$(call install-packages,$(TEST_PACKAGES))
	@echo "running all tests, which takes some minutes"
	@go vet ./...
	@{ go test -json -timeout 25m -parallel 6 -skip '$(CROWDED)' ./... || true; go test -json -timeout 20m -parallel 2 -run '$(CROWDED)' ./tools/e2e; } | tee bin/test.json | go run ./tools/testsum -strict=$(if $(CI),true,false)

bin/test.json: go.mod $(shell find bpf cmd pkg tools -type f -not -name LEDGER.md)
	@$(MAKE) --no-print-directory test

.PHONY: conformance
conformance: bin/test.json ## Show which test proves which demand of the RFCs (root; runs make test if necessary)
	@go run ./tools/conformance -markdown tools/conformance/LEDGER.md bin/test.json

.PHONY: interop
interop: build ## Run failovers with keepalived and FRR, and judge them on the wire; KEEPALIVED, FRR, RUN (root, six minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/interop --failoverd bin/failoverd $(if $(KEEPALIVED),--keepalived '$(KEEPALIVED)') $(if $(FRR),--frr '$(FRR)') $(if $(PARALLEL),--parallel $(PARALLEL)) $(if $(RUN),--run '$(RUN)')

.PHONY: simulate
simulate: ## Simulate HOURS (50000) of routers on LANs that lose, delay and break; replay with SEED
	go test ./pkg/router -count=1 -timeout 2h -run '^TestSimulation$$' -v $(if $(SEED),-sim.seed=$(SEED) -sim.trace,-sim.hours=$(HOURS))

.PHONY: chaos
chaos: build ## Run ROUNDS (200) rounds of random kills, power cuts, reloads and changes by other programs; replay with SEED (root, 25 minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/chaos --failoverd bin/failoverd --rounds $(or $(ROUNDS),200) $(if $(SEED),--seed $(SEED))

.PHONY: test-kernels
test-kernels: ## Test the packet path on Debian's kernels in qemu, those of SUITES (root, four minutes)
	@mkdir -p bin
	@$(call install-packages,qemu-system-x86 busybox-static cpio)
	@go run ./tools/kernels $(if $(SUITES),-suites $(SUITES))

.PHONY: test-package
test-package: deb rpm ## Install, upgrade and purge the .deb and the .rpm on two booted machines, with failovers (root, two minutes)
	@$(call install-packages,systemd-container mmdebstrap lintian)
	lintian --allow-root --fail-on error,warning bin/failoverd_*_$(PACKAGE_ARCH).deb
	$(subst $(VERSION),$(VERSION)+newer,$(call NFPM,deb,bin/newer.deb))
	$(subst $(VERSION),$(VERSION)+newer,$(call NFPM,rpm,bin/newer.rpm))
	@go run ./tools/machine --deb bin/failoverd_*_$(PACKAGE_ARCH).deb --newer bin/newer.deb --rpm bin/failoverd-*.$(MACHINE).rpm --newer-rpm bin/newer.rpm

# KEEPALIVED is the path of another keepalived than the installed one.
BENCH = --failoverd bin/failoverd --commit '$(VERSION)' $(if $(KEEPALIVED),--keepalived '$(KEEPALIVED)')
BENCH_PLOT = cd tools/bench/plot && go run . --in $(CURDIR)/bin/bench.json --out $(CURDIR)/bin/bench.png && echo "a picture of it is in bin/bench.png"

.PHONY: bench
bench: build ## Measure beside keepalived or KEEPALIVED and write RESULTS.md, or only ONLY; ROUNDS (root, 45 minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/bench $(BENCH) --rounds $(or $(ROUNDS),0) --only '$(ONLY)' --results tools/bench/RESULTS.md
	@$(BENCH_PLOT)
	@go test -run '^$$' -bench . -benchmem ./pkg/... | grep -E '^(Benchmark|pkg:|cpu:)'

.PHONY: bench-quick
bench-quick: build ## Measure the most important values once (root, three minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/bench $(BENCH) --quick
	@$(BENCH_PLOT)

.PHONY: bench-fence
bench-fence: build ## Measure how long a hung or killed Active still answers, beside keepalived (root, two minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/bench $(BENCH) --rounds $(or $(ROUNDS),5) --only '^Fence$$'

.PHONY: bench-bystander
bench-bystander: build ## Measure the cost for the interface's other traffic (root, five minutes; ROUNDS=40)
	@go run ./tools/bench $(BENCH) --rounds $(or $(ROUNDS),40) --only '^Bystander$$'

.PHONY: bench-checks
bench-checks: build ## Measure 1,000 checks under 200 routers, beside keepalived (root, three minutes)
	@$(call install-packages,$(TEST_PACKAGES))
	@go run ./tools/bench $(BENCH) --only '^Checks$$'

.PHONY: lint
lint: ## Check style and the import rules
	@test -z "$$($(LINT) gofumpt -l bpf cmd pkg tools | tee /dev/stderr)" || { echo "gofumpt would change these files: run go tool -modfile=tools/lint/go.mod gofumpt -w FILE" >&2; exit 1; }
	$(LINT) golangci-lint run ./...

.PHONY: fuzz
fuzz: ## Fuzz each decoder, and compare the XDP program with it, for FUZZTIME (30s; root)
	@for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: clean
clean: ## Remove everything that was built
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

# The files that "make man" writes, each with the directory that it is installed to.
SHARED := man/failoverd.8:man/man8/ man/failoverctl.8:man/man8/ man/failoverd.yaml.5:man/man5/ \
	$(foreach p,migrate security api,man/failoverd-$p.7:man/man7/) \
	$(foreach p,failoverd failoverctl,completions/bash/$p:bash-completion/completions/ \
		completions/zsh/_$p:zsh/site-functions/ completions/fish/$p.fish:fish/vendor_completions.d/)

.PHONY: install
install: man ## Install both programs, their manual and the systemd unit to PREFIX (/usr/local)
	install -D -m 0755 bin/failoverd $(DESTDIR)$(PREFIX)/sbin/failoverd
	install -D -m 0755 bin/failoverctl $(DESTDIR)$(PREFIX)/bin/failoverctl
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/local|$(PREFIX)|' tools/package/failoverd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/failoverd.service
	@for s in $(SHARED); do install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/$${s#*:} bin/$${s%%:*}; done
	@[ -n "$(DESTDIR)" ] || echo "installed; write /etc/failoverd/failoverd.yaml (failoverctl reference), then: systemctl daemon-reload && systemctl enable --now failoverd"

.PHONY: uninstall
uninstall: ## Remove everything that make install has installed
	rm -f $(DESTDIR)$(PREFIX)/sbin/failoverd $(DESTDIR)$(PREFIX)/bin/failoverctl $(DESTDIR)$(PREFIX)/lib/systemd/system/failoverd.service
	@for s in $(SHARED); do rm -f $(DESTDIR)$(PREFIX)/share/$${s#*:}$$(basename $${s%%:*}); done

# The files that all packages of an architecture share, and the files for systemd. The times and
# modes of all files are fixed, because the same commit has to give the same packages.
STAGE = bin/stage/$(PACKAGE_ARCH)
EPOCH = $(shell git log -1 --format=%ct)
FIX = chmod -R u=rwX,go=rX $(1) && find $(1) -exec touch -hd @$(EPOCH) {} +

.PHONY: stage
stage:
	rm -rf $(STAGE)
	@$(MAKE) --no-print-directory install DESTDIR=$(STAGE)/all PREFIX=/usr
	for p in sbin/failoverd bin/failoverctl; do \
		CGO_ENABLED=0 GOARCH=$(PACKAGE_ARCH) go build -trimpath -ldflags '-s -w -X github.com/failoverd/failoverd/pkg/config.release=$(VERSION)' -o $(STAGE)/all/usr/$$p ./cmd/$${p#*/}; \
	done
	install -D -m 0644 tools/package/sysusers.conf $(STAGE)/systemd/usr/lib/sysusers.d/failoverd.conf
	mv $(STAGE)/all/usr/lib/systemd $(STAGE)/systemd/usr/lib/ && rmdir $(STAGE)/all/usr/lib
	install -d $(STAGE)/all/usr/share/doc/failoverd/examples
	cp -r tools/package/examples/. $(STAGE)/all/usr/share/doc/failoverd/examples/
	bin/failoverctl reference >$(STAGE)/all/usr/share/doc/failoverd/examples/failoverd.yaml
	go run ./tools/sbom --notices $(STAGE)/all/usr/share/doc/failoverd/modules.txt $(STAGE)/all/usr/{sbin/failoverd,bin/failoverctl}
	rm -r $(STAGE)/all/usr/share/zsh # each distribution has another directory for zsh's completions
	gzip -9n $(STAGE)/all/usr/share/man/man*/* $(STAGE)/all/usr/share/doc/failoverd/modules.txt
	git log -1 --format='failoverd ($(VERSION)-1) unstable; urgency=medium%n%n  * Version $(VERSION).%n%n -- The failoverd authors <failoverd@users.noreply.github.com>  %cD' | gzip -9n >bin/changelog.gz
	$(call FIX,$(STAGE) bin/completions bin/changelog.gz)

# Each distribution has its own notation for a version before a release.
VERSION_apk = $(shell sed -E 's/~/_/; s/(_git[0-9]+)\./\1~/' <<<'$(VERSION)')
VERSION_archlinux = $(subst ~,,$(VERSION))
NFPM = SOURCE_DATE_EPOCH=$(EPOCH) VERSION='$(or $(VERSION_$(1)),$(VERSION))' PACKAGE_ARCH=$(PACKAGE_ARCH) go tool -modfile=tools/package/go.mod nfpm package --config tools/package/nfpm.yaml --packager $(1) --target $(or $(2),$(OUT)/)
# The name of the architecture in rpm, Alpine and Arch Linux.
MACHINE = $(or $(patsubst amd64,x86_64,$(filter amd64,$(PACKAGE_ARCH))),$(patsubst arm64,aarch64,$(PACKAGE_ARCH)))

.PHONY: deb
deb: stage ## Make a package for Debian and Ubuntu
	@mkdir -p $(OUT) && rm -f $(OUT)/failoverd_*_$(PACKAGE_ARCH).deb
	$(call NFPM,deb)

.PHONY: rpm
rpm: stage ## Make a package for Fedora, RHEL and SUSE
	@mkdir -p $(OUT) && rm -f $(OUT)/failoverd-*.$(MACHINE).rpm
	$(call NFPM,rpm)

.PHONY: apk
apk: stage ## Make a package for Alpine, with a service of OpenRC
	@mkdir -p $(OUT) && rm -f $(OUT)/failoverd_*_$(MACHINE).apk
	install -D -m 0755 tools/package/apk/pre-install bin/apk/pre-install # nfpm keeps its time and mode
	$(call FIX,bin/apk)
	$(call NFPM,apk)

.PHONY: archlinux
archlinux: stage ## Make a package for Arch Linux
	@mkdir -p $(OUT) && rm -f $(OUT)/failoverd-*-$(MACHINE).pkg.tar.zst
	$(call NFPM,archlinux)

.PHONY: tarball
tarball: stage ## Make a tarball to unpack in /usr/local
	@mkdir -p $(OUT) && rm -f $(OUT)/failoverd-*-linux-$(PACKAGE_ARCH).tar.gz && rm -rf bin/tarball
	install -D -m 0644 tools/package/failoverd.service bin/tarball/lib/systemd/system/failoverd.service
	cp -r $(STAGE)/all/usr/* bin/tarball/
	install -D -m 0644 -t bin/tarball/share/zsh/site-functions bin/completions/zsh/*
	install -m 0644 LICENSE bin/tarball/share/doc/failoverd/
	$(call FIX,bin/tarball)
	tar -C bin/tarball --transform 's|^\.|failoverd-$(VERSION)|S' --sort=name --owner=0 --group=0 --numeric-owner --format=gnu -cf - . | gzip -9n >$(OUT)/failoverd-$(VERSION)-linux-$(PACKAGE_ARCH).tar.gz

.PHONY: snap
snap: stage ## Make a snap that replaces the Rust failover's
	@$(call install-packages,squashfs-tools)
	@mkdir -p $(OUT) && rm -rf bin/snap $(OUT)/failover_*_$(PACKAGE_ARCH).snap
	cp -r tools/package/snap bin/snap
	mkdir bin/snap/usr
	cp -r $(STAGE)/all/usr/{bin,sbin} bin/snap/usr/
	sed -i 's|@VERSION@|$(VERSION)|; s|@ARCH@|$(PACKAGE_ARCH)|' bin/snap/meta/snap.yaml
	$(call FIX,bin/snap)
	SOURCE_DATE_EPOCH=$(EPOCH) mksquashfs bin/snap $(OUT)/failover_$(VERSION)_$(PACKAGE_ARCH).snap -quiet -no-progress -noappend -comp xz -no-fragments -no-xattrs -all-root

LABELS = title=failoverd 'description=virtual IP addresses that survive the loss of a host (VRRP)' 'version=$(VERSION)' \
	revision=$(shell git rev-parse HEAD) created=$(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd) \
	licenses=Apache-2.0 url=https://github.com/failoverd/failoverd source=https://github.com/failoverd/failoverd
# The name of the image has no version, so that the manual's commands run it. The version is a label.
IMAGE = flags=(); for l in $(LABELS); do flags+=(--label "org.opencontainers.image.$$l"); done; \
	go run ./tools/image --out $(1) --name $(2) --entrypoint /usr/sbin/failoverd --epoch $(EPOCH) "$${flags[@]}" $(foreach a,$(ARCHS),--root $a=$(3)/$a)

.PHONY: image
image: ## Make a container image for amd64 and arm64, an OCI archive, without Docker
	@mkdir -p $(OUT) && rm -rf bin/image $(OUT)/failoverd-*-oci.tar
	@for a in $(ARCHS); do \
		$(MAKE) --no-print-directory stage PACKAGE_ARCH=$$a; \
		mkdir -p bin/image/$$a/{etc/failoverd,run,usr/share/doc/failoverd}; \
		cp -r bin/stage/$$a/all/usr/{bin,sbin} bin/image/$$a/usr/; \
		cp LICENSE bin/stage/$$a/all/usr/share/doc/failoverd/modules.txt.gz bin/image/$$a/usr/share/doc/failoverd/; \
	done
	@$(call FIX,bin/image)
	$(call IMAGE,$(OUT)/failoverd-$(VERSION)-oci.tar,failoverd:latest,bin/image)

# Only the shell and the certificates of the packages go into the image, the latter as one file.
.PHONY: image-shell
image-shell: image ## Make a second image with a shell and certificates for checks (Debian's busybox and ca-certificates)
	@$(call install-packages,mmdebstrap)
	@rm -rf bin/image-shell bin/debian && mkdir bin/image-shell bin/debian
	@for a in $(ARCHS); do \
		mmdebstrap --quiet --variant=extract --architectures=$$a --include=busybox-static,ca-certificates $(SUITE) bin/debian/$$a; \
		cp -r bin/image/$$a bin/image-shell/; \
		mkdir -p bin/image-shell/$$a/{bin,etc/ssl/certs,tmp}; \
		install -m 0755 bin/debian/$$a/bin/busybox bin/image-shell/$$a/bin/; \
		applets=$$(bin/debian/$$(go env GOHOSTARCH)/bin/busybox --list); \
		for applet in $$applets; do [ "$$applet" = busybox ] || ln -s busybox bin/image-shell/$$a/bin/$$applet; done; \
		LC_ALL=C cat bin/debian/$$a/usr/share/ca-certificates/mozilla/*.crt >bin/image-shell/$$a/etc/ssl/certs/ca-certificates.crt; \
		for p in busybox-static ca-certificates; do install -D -m 0644 bin/debian/$$a/usr/share/doc/$$p/copyright bin/image-shell/$$a/usr/share/doc/$$p/copyright; done; \
	done
	@$(call FIX,bin/image-shell)
	@chmod 1777 bin/image-shell/*/tmp
	$(call IMAGE,$(OUT)/failoverd-$(VERSION)-shell-oci.tar,failoverd:shell,bin/image-shell)
	@rm -rf bin/debian

.PHONY: release
release: ## Make all files of a release in bin/release, for amd64 and arm64
	@rm -rf bin/release && mkdir -p bin/release
	@for a in $(ARCHS); do $(MAKE) --no-print-directory OUT=bin/release PACKAGE_ARCH=$$a deb rpm apk archlinux tarball snap; done
	@$(MAKE) --no-print-directory OUT=bin/release image-shell
	go run ./tools/sbom --version '$(VERSION)' --epoch $(EPOCH) --out 'bin/release/failoverd-$(VERSION).cdx.json' $(ARCHS:%=bin/stage/%/all/usr/sbin/failoverd) $(ARCHS:%=bin/stage/%/all/usr/bin/failoverctl)
	cd bin/release && sha256sum * >SHA256SUMS
	@echo "the release $(VERSION) is in bin/release"

# It makes two clones, with different host names, time zones and umasks. Both compile the
# dependencies from the same module cache.
.PHONY: test-release
test-release: ## Make the release of the last commit twice, for amd64, and compare the checksums (root, some minutes)
	@$(call install-packages,util-linux squashfs-tools mmdebstrap)
	@rm -rf bin/twice && mkdir -p bin/twice
	@for host in one two/deeper; do \
		git clone -q . bin/twice/$$host; \
		echo "making the release in bin/twice/$$host"; \
		TZ=$$([ $$host = one ] && echo UTC || echo Asia/Tokyo) unshare --uts bash -c 'set -eu; hostname "$${1%/*}"; umask $$([ $$1 = one ] && echo 022 || echo 077); exec make --no-print-directory -C bin/twice/$$1 release VERSION=$$2 ARCHS=amd64' - $$host '$(VERSION)' >bin/twice.log 2>&1 || { tail -30 bin/twice.log >&2; exit 1; }; \
	done
	@cd bin/twice && diff one/bin/release/SHA256SUMS two/deeper/bin/release/SHA256SUMS || { echo "the two releases differ in the files above" >&2; exit 1; }
	@cd bin/twice/two/deeper/bin/release && sha256sum --quiet -c SHA256SUMS && echo "both clones make the same $$(ls | wc -l) files"
	@rm -rf bin/twice bin/twice.log
