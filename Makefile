# Everything that a newcomer or a pipeline runs. `make help` lists it.
SHELL := /bin/sh
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

KEYS   ?= keys
BUILD  ?= build
SYSGRAFT = target/release/sysgraft
# The fastest inflate; without it (make FEATURES=) no assembler and no autotools are needed.
FEATURES ?= isal
WITH = --locked --features "$(FEATURES)"

HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# What the static programs are for, as Rust names it.
TARGET ?= $(HOST)
PROGRAMS = target/programs

VERSION = $(shell sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q;}' Cargo.toml)
REVISION = $(shell git rev-parse HEAD 2>/dev/null)

.PHONY: help demo test lint bench programs agent dist dist-check documents image image-check walk-check book book-check page-check vm-check test-vm secure-boot-check clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## install what is missing, build, make a signed extension from an example image, check it
	@.ci/setup demo
	cargo build --release $(WITH)
	@examples/make-keys $(KEYS)
	@examples/make-image examples/hello $(BUILD)/hello.oci.tar
	$(SYSGRAFT) sysext --private-key $(KEYS)/db.key --certificate $(KEYS)/db.pem --output $(BUILD) hello oci-archive:$(BUILD)/hello.oci.tar
	$(SYSGRAFT) inspect $(BUILD)/hello.sysext.raw
	@examples/check-image $(BUILD)/hello.sysext.raw $(KEYS)/db.pem

test: ## install what is missing, run every test
	@.ci/setup test
	@.ci/newer-erofs-utils target/erofs-utils || echo "no newer erofs-utils: tests of zstd images and of mkfs.erofs will be skipped" >&2
	@.ci/virt-firmware target/virt-firmware || echo "no virt-firmware: its tests will be skipped" >&2
	@.ci/newer-systemd target/newer-systemd || echo "no systemd-sysupdate: its tests will be skipped" >&2
	@.ci/newer-mkosi target/newer-mkosi || echo "no newer mkosi: its test will be skipped" >&2
	@.ci/publish-judges target/publish-judges || echo "no oras and spdx-tools: their tests will be skipped" >&2
	@.ci/pipeline-judges target/pipeline-judges || echo "no check-jsonschema, zizmor and kubernetes-validate: their tests will be skipped" >&2
	@PATH="$(CURDIR)/target/erofs-utils/bin:$$PATH"; \
	if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run $(WITH) --no-fail-fast && cargo test $(WITH) --doc; \
	else \
		cargo test $(WITH) --no-fail-fast; \
	fi

lint: ## formatting and clippy, as CI demands them
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

bench: ## measure everything beside its peers (an hour and a half; with SYSGRAFT_BENCH_QUICK=1 minutes)
	@.ci/setup bench || echo "what is missing will be named and left out" >&2
	@.ci/bench-peers target/bench-peers
	@cargo bench $(WITH)

programs: ## build both programs, each one static file, into target/programs
	@.ci/setup agent
	@.ci/static-program sysgraft-agent $(TARGET) $(PROGRAMS)/sysgraft-agent
	@FEATURES="$(FEATURES)" .ci/static-program sysgraft $(TARGET) $(PROGRAMS)/sysgraft

agent: ## build the agent for nodes: one small static file, and hold it to what is promised of it
	@.ci/setup agent
	@.ci/static-program sysgraft-agent $(TARGET) $(PROGRAMS)/sysgraft-agent
	@.ci/check-agent $(PROGRAMS)/sysgraft-agent

dist: programs documents ## make a release: tarball, Debian packages, SBOM, checksums in target/dist
	@packaging/dist $(TARGET) $(PROGRAMS) target/documents target/dist vendored-openssl $(FEATURES)

dist-check: dist ## install and judge what `make dist` made, and make it a second time
	@.ci/setup dist
	@tests/dist-check

documents: ## write manual pages and shell completions of both programs into target/documents
	mkdir -p target/documents
	cargo run $(WITH) --bin sysgraft -- man target/documents
	for shell in bash zsh fish; do \
		cargo run $(WITH) --bin sysgraft -- completions $$shell >target/documents/sysgraft.$$shell || exit; \
	done
	mv target/documents/sysgraft.zsh target/documents/_sysgraft
	cargo run --locked --features documents --bin sysgraft-agent -- documents target/documents

image: ## build the container image `sysgraft` (IMAGE_OPTIONS: more options of docker build)
	DOCKER_BUILDKIT=1 docker build $(IMAGE_OPTIONS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) -t sysgraft .

image-check: ## build the container image without any registry, run what docs/container.md shows, measure
	@tests/container/image-check

walk-check: ## the same, then the five commands of README.md against a virtual machine
	@tests/container/image-check --walk

book: ## build the documentation as a book in target/book
	@.ci/mdbook target/mdbook
	target/mdbook/bin/mdbook build

book-check: ## build the book, follow its links, show it to a headless Chromium; pictures in target/book-pictures
	@.ci/mdbook target/mdbook
	@tests/book-check

page-check: ## show pages to a headless Chromium, where there is one; pictures in target/pages
	@tests/page-check

vm-check: ## judge real images in a booted Debian, where the acceptance lab is present
	@tests/vm-check

test-vm: ## run the agent in booted machines, power cuts included, where the acceptance lab is present
	@tests/vm/run || [ $$? = 77 ]

secure-boot-check: ## enrol a key set into a virtual machine's firmware and boot with Secure Boot on
	@tests/secure-boot-check

clean: ## remove what was built, keys excepted
	cargo clean
	rm -rf $(BUILD)
