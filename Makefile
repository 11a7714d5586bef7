# memcg-bpf: every way to build, test and install it. `make` alone lists them.

PREFIX ?= /usr
DESTDIR ?=
KERNEL ?= 7.3
BENCH ?= cost share burst giveback reaction
CLANG ?= clang
CLANG_FORMAT ?= clang-format
LLVM_STRIP ?= llvm-strip

# A command is for the machine's shell: make leaves its dollars alone.
override CMD := $(value CMD)
export CMD

TARGET := $(or $(CARGO_TARGET_DIR),target)
BPF_HEADERS := $(wildcard bpf/*.h bpf/internal/*.h)
BPF_CORE := $(wildcard bpf/core/*.h)
BPF_SOURCES := bpf/core.bpf.c $(wildcard bpf/policies/*.bpf.c)
MACHINE ?= $(shell uname -m)
# Another machine than this one: what is built for it stands under target/MACHINE/, and beside cargo's own by its target.
CROSS := $(filter-out $(shell uname -m),$(MACHINE))
BUILT := target$(CROSS:%=/%)
CARGO_TARGET := $(CROSS:%=%-unknown-linux-gnu)
RELEASE := $(TARGET)/$(CARGO_TARGET:%=%/)release
BPF_OBJECTS := $(patsubst bpf/%.c,$(BUILT)/bpf/%.o,$(BPF_SOURCES))
BPF_ARCH_x86_64 := x86
BPF_ARCH_aarch64 := arm64
BPF_ARCH = $(or $(BPF_ARCH_$(MACHINE)),$(error The BPF objects know the registers of x86_64 and aarch64, not of \
	'$(MACHINE)'; bpf/internal/growth.h and bpf/internal/kernel.h are where to teach them))
# Without block placement: Linux 6.1 rejects loops that are entered in the middle.
BPF_FLAGS = -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_$(BPF_ARCH) -Ibpf -Wall -Werror -mllvm -disable-block-placement \
	-ffile-compilation-dir=.

# The same commit gives the same files: times come from SOURCE_DATE_EPOCH, by default the commit's.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH
# The command that writes manual pages and completions; it must run here.
COMMAND ?= $(if $(CROSS),$(TARGET)/release,$(RELEASE))/memcg-bpf
ZSH_FUNCTIONS ?= $(PREFIX)/share/zsh/vendor-completions
DOCS ?= $(PREFIX)/share/doc/memcg-bpf

# Panic messages contain file names. Remapping makes them independent of the build directory, so builds are reproducible.
CARGO_HOME ?= $(HOME)/.cargo
# A crate has one name, whether it lies where cargo puts it or in vendor/; the last that fits counts.
CRATES = $(wildcard $(CARGO_HOME)/registry/src/*) $(CURDIR)/vendor
COMMA := ,
PATHS = "--remap-path-prefix=$(CARGO_HOME)=/cargo","--remap-path-prefix=$(CURDIR)=/memcg-bpf"$(CRATES:%=$(COMMA) \
	"--remap-path-prefix=%=/crates")

# Where the other machine's libraries are: Debian's, fetched; or `/`, where they are installed here (libelf-dev:arm64).
FETCHED := $(CURDIR)/$(BUILT)/root
SYSROOT ?= $(FETCHED)
SYSROOT_READY = $(if $(CROSS),$(if $(filter $(FETCHED),$(SYSROOT)),$(FETCHED)/packages))
CROSS_CARGO = --target $(CARGO_TARGET) --config 'target.$(CARGO_TARGET).linker="$(CROSS)-linux-gnu-gcc"'
CROSS_C = CFLAGS_$(subst -,_,$(CARGO_TARGET))=--sysroot=$(SYSROOT)
CROSS_LINK = $(if $(CROSS),$(COMMA)"-Clink-arg=--sysroot=$(SYSROOT)")

INSTALL := install -D -m 644
INSTALL_PROGRAM := install -D -m 755
# What names our programs, with their place written in: $(call INSTALL_NAMING,from,to).
INSTALL_NAMING = sed -e 's|/usr/bin/memcg-bpf|$(PREFIX)/bin/memcg-bpf|' -e 's|/usr/sbin/|$(PREFIX)/sbin/|' \
	-e 's|/usr/libexec/|$(PREFIX)/libexec/|' $(1) | \
	$(INSTALL) /dev/stdin $(2)

.PHONY: help build build-deps bpf quick format lint test check check-all fuzz soak youki scale packages demo pictures bench vm deb rpm vendor install clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
	@echo 'MACHINE=aarch64 builds for another machine than this one ("make build", "make bpf" and "make deb").'
	@echo 'KERNEL=7.3|6.12|6.1 chooses the kernel of "make vm"; DESTDIR and PREFIX=/usr (of the programs) go to "make install".'

build: toolchain bpf crates $(SYSROOT_READY) ## the five programs and the BPF objects
	$(if $(CROSS),$(CROSS_C)) cargo build --release --locked $(if $(CROSS),$(CROSS_CARGO)) \
		--config 'build.rustflags=[$(PATHS)$(CROSS_LINK)]'

build-deps: ## installs the Debian packages that "make build" and "make deb" need, as root
	@tests/vm/setup build

# One sentence if Rust or a compiler is missing or too old.
.PHONY: toolchain
toolchain:
	@packaging/toolchain

# Beforehand, so that the directory of the crates is there when its name is wanted.
.PHONY: crates
crates: toolchain
	cargo fetch --locked --target $(MACHINE)-unknown-linux-gnu

$(FETCHED)/packages: packaging/deb/sysroot
	packaging/deb/sysroot $(CROSS) $(FETCHED)
	touch $@

# An object without a source file would still be tested and installed.
BPF_STALE = $(filter-out $(BPF_OBJECTS),$(wildcard $(BUILT)/bpf/*.bpf.o $(BUILT)/bpf/policies/*.bpf.o))

bpf: $(BPF_OBJECTS) ## the BPF objects alone, under target/bpf/
	$(if $(BPF_STALE),rm -f $(BPF_STALE))

# Stripped of DWARF only: the loader and the schema reader live on the BTF.
$(BUILT)/bpf/core.bpf.o: $(BPF_CORE)
$(BUILT)/bpf/%.bpf.o: bpf/%.bpf.c $(BPF_HEADERS)
	@mkdir -p $(@D)
	$(CLANG) $(BPF_FLAGS) -c $< -o $@.tmp
	$(LLVM_STRIP) -g $@.tmp
	mv $@.tmp $@

# Policies that only the system tests use, and all of ours as another version might have them.
ABI_VARIANT := $(BUILT)/policies/abi_variant
.PHONY: test-policies
test-policies: $(patsubst tests/policies/%.c,$(BUILT)/policies/%.o,$(wildcard tests/policies/*.bpf.c)) $(ABI_VARIANT)/made

$(BUILT)/policies/%.bpf.o: tests/policies/%.bpf.c tests/policies/scripted.h $(BPF_HEADERS)
	@mkdir -p $(@D)
	$(CLANG) $(BPF_FLAGS) -c $< -o $@.tmp
	$(LLVM_STRIP) -g $@.tmp
	mv $@.tmp $@

$(ABI_VARIANT)/made: tests/policies/abi_variant.sed $(BPF_SOURCES) $(BPF_HEADERS) $(BPF_CORE)
	rm -rf $(ABI_VARIANT)
	mkdir -p $(ABI_VARIANT)/policies $(ABI_VARIANT)/source/policies $(ABI_VARIANT)/source/core $(ABI_VARIANT)/source/internal
	set -e; for file in $(BPF_SOURCES) $(BPF_HEADERS) $(BPF_CORE); do \
		sed -f tests/policies/abi_variant.sed $$file >$(ABI_VARIANT)/source/$${file#bpf/}; done
	set -e; for object in $(BPF_OBJECTS:$(BUILT)/bpf/%.bpf.o=%); do \
		$(CLANG) $(BPF_FLAGS:-Ibpf=-I$(ABI_VARIANT)/source) -c $(ABI_VARIANT)/source/$$object.bpf.c -o $(ABI_VARIANT)/$$object.bpf.o; \
		$(LLVM_STRIP) -g $(ABI_VARIANT)/$$object.bpf.o; done
	touch $@

quick: format lint test ## format, lint and the tests that need no kernel (a minute)

format:
	cargo fmt --check
	$(CLANG_FORMAT) --dry-run -Werror $(BPF_HEADERS) $(BPF_CORE) $(BPF_SOURCES) $(wildcard examples/policies/*.c)

lint: bpf
	cargo clippy --locked --all-targets -- -D warnings

test: bpf
	cargo test --locked --no-fail-fast

# Thirteen targets, some hundred thousand mutations each, the same on every machine; nothing is installed for it.
.PHONY: fuzz-short
fuzz-short: bpf
	cargo test --locked --test fuzz mutations_of -- --ignored

.PHONY: fuzz-long
fuzz-long: bpf
	FUZZ_RUNS=$${FUZZ_RUNS:-1000000} cargo test --locked --profile fuzz --test fuzz mutations_of -- --ignored --nocapture

fuzz: bpf ## fuzzes every parser, FUZZ_SECONDS=600 each; FUZZ_TARGET=policy_line: one of them
	@fuzz/run

check: ## everything: quick, and the system tests on each kernel of the matrix (about an hour on two processors)
	@tests/vm/all

check-all: ## check, and the packages built a second time and compared (10 minutes more)
	@tests/vm/all --twice

soak: ## hours of kills and reloads: tests/system/soak.rs
	@tests/vm/setup
	@MEMCG_BPF_SOAK=100 tests/vm/check --kernel $(KERNEL) soak

youki: ## the hook under youki, which is built for it
	@tests/vm/setup
	@tests/vm/youki
	@tests/vm/check --kernel $(KERNEL) youki

scale: ## what the daemon needs with a thousand bindings and ten thousand cgroups
	@tests/vm/setup
	@tests/scale/run

packages: ## builds both kinds of packages, and tests them on this machine
	@tests/vm/setup
	@tests/packaging/check

demo: ## shows in an emulated machine what the project does
	@tests/vm/demo

pictures: ## makes the screenshots of docs/pictures/ anew
	@tests/vm/setup
	@tests/pictures/setup
	@tests/pictures/run

bench: ## what policies cost and what they are good for, beside others; BENCH=cost|share|burst|giveback|reaction: one of them
	@tests/vm/setup
	@for bench in $(BENCH); do \
		if [ $$bench = cost ]; then tests/bench/run; else tests/bench/compare $$bench; fi || exit 1; \
	done

vm: ## a root shell in a fresh machine; CMD='...' runs one command
	@tests/vm/setup
	@tests/vm/data target/vm/data
	@tests/vm/run --kernel $(KERNEL) --data target/vm/data $(if $(CMD),-- "$$CMD",--interactive)

deb: ## the Debian packages, under target/deb/
	@packaging/deb/build $(if $(CROSS),--machine $(CROSS))

rpm: ## the RPM packages, under target/rpm/
	@packaging/rpm/build

vendor: ## puts the crates into vendor/, and has cargo use them: builds need no network from then on
	mkdir -p .cargo
	cargo vendor --locked --versioned-dirs vendor >.cargo/config.toml

# PREFIX moves programs and headers. What the daemon, systemd, D-Bus and container engines look for stays where they
# look.
install: ## what `make build` built, to DESTDIR and PREFIX
	$(if $(filter /%,$(PREFIX)),,$(error PREFIX must be an absolute path, not '$(PREFIX)'))
	$(INSTALL_PROGRAM) $(RELEASE)/memcg-bpfd $(DESTDIR)$(PREFIX)/sbin/memcg-bpfd
	$(INSTALL_PROGRAM) $(RELEASE)/memcg-bpf $(DESTDIR)$(PREFIX)/bin/memcg-bpf
	$(INSTALL_PROGRAM) $(RELEASE)/memcg-bpf-hook $(DESTDIR)$(PREFIX)/libexec/oci/hooks.d/memcg-bpf-hook
	$(INSTALL_PROGRAM) $(RELEASE)/memcg-bpf-runc $(DESTDIR)$(PREFIX)/bin/memcg-bpf-runc
	$(INSTALL_PROGRAM) $(RELEASE)/memcg-bpf-nri $(DESTDIR)$(PREFIX)/libexec/memcg-bpf/memcg-bpf-nri
	set -e; for header in $(BPF_HEADERS); do \
		$(INSTALL) $$header $(DESTDIR)$(PREFIX)/include/memcg-bpf/$${header#bpf/}; done
	set -e; for object in $(BPF_OBJECTS); do \
		$(INSTALL) $$object $(DESTDIR)/usr/lib/memcg-bpf/$${object#$(BUILT)/bpf/}; done
	set -e; for profile in profiles/*.profile; do \
		$(INSTALL) $$profile $(DESTDIR)/usr/lib/memcg-bpf/profiles.d/$${profile#profiles/}; done
	set -e; for hook in oci-hooks/*.json; do \
		$(call INSTALL_NAMING,$$hook,$(DESTDIR)/usr/share/containers/oci/hooks.d/$${hook#oci-hooks/}); done
	set -e; for example in examples/policies/*.bpf.c examples/policies/Makefile; do \
		$(INSTALL) $$example $(DESTDIR)$(PREFIX)/share/memcg-bpf/$$example; done
	set -e; for text in README.md CHANGELOG.md $$(find docs -type f | LC_ALL=C sort); do \
		$(INSTALL) $$text $(DESTDIR)$(DOCS)/$$text; done
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 \
		$(DESTDIR)$(PREFIX)/share/man/man7 $(DESTDIR)$(PREFIX)/share/man/man8
	rm -rf $(BUILT)/man
	$(COMMAND) manual --prose packaging/man --objects $(BUILT)/bpf \
		--date "$$(date -u -d @$(SOURCE_DATE_EPOCH) +%F)" $(BUILT)/man
	set -e; for page in $(BUILT)/man/*; do \
		$(INSTALL) $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; done
	$(COMMAND) completion bash | \
		$(INSTALL) /dev/stdin $(DESTDIR)$(PREFIX)/share/bash-completion/completions/memcg-bpf
	$(COMMAND) completion zsh | $(INSTALL) /dev/stdin $(DESTDIR)$(ZSH_FUNCTIONS)/_memcg-bpf
	$(COMMAND) completion fish | \
		$(INSTALL) /dev/stdin $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/memcg-bpf.fish
	set -e; for unit in memcg-bpfd memcg-bpf-metrics memcg-bpf-record; do \
		$(call INSTALL_NAMING,systemd/$$unit.service,$(DESTDIR)/usr/lib/systemd/system/$$unit.service); done
	$(call INSTALL_NAMING,systemd/memcg-bpf-nri.service,$(DESTDIR)/usr/lib/systemd/system/memcg-bpf-nri.service)
	$(INSTALL) systemd/memcg-bpf-nri.path $(DESTDIR)/usr/lib/systemd/system/memcg-bpf-nri.path
	$(INSTALL) systemd/80-memcg-bpf.preset $(DESTDIR)/usr/lib/systemd/system-preset/80-memcg-bpf.preset
	$(INSTALL) systemd/memcg-bpf.catalog $(DESTDIR)/usr/lib/systemd/catalog/memcg-bpf.catalog
	$(INSTALL) systemd/org.memcg.Bpf1.conf $(DESTDIR)/usr/share/dbus-1/system.d/org.memcg.Bpf1.conf
	$(INSTALL) systemd/org.memcg.Bpf1.policy $(DESTDIR)/usr/share/polkit-1/actions/org.memcg.Bpf1.policy
	$(INSTALL) systemd/org.memcg.Bpf1.service $(DESTDIR)/usr/share/dbus-1/system-services/org.memcg.Bpf1.service
	$(INSTALL) systemd/org.memcg.Bpf1.xml $(DESTDIR)/usr/share/dbus-1/interfaces/org.memcg.Bpf1.xml
	$(INSTALL) systemd/memcg-bpf.conf $(DESTDIR)/etc/memcg-bpf/memcg-bpf.conf

clean: ## removes target/, with the machine's images
	rm -rf target
