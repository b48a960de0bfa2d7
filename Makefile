# Elver: a Linux-compatible unikernel in Go.
#
#   make            build/elver.kernel and build/elver, with the Go toolchain alone
#   make run        boot the demonstration, or anything else:
#                   make run APP=path ARGS="…" ROOTFS=dir MEM=256 CPUS=1 NET=1
#   make test       the quick tests, on the host and in QEMU
#   make soak       the long ones
#   make install    the command into PREFIX/bin (default /usr/local); make uninstall
#   make bench      what things cost, in instructions (BENCH_LINUX=bzImage: beside Linux)

GO ?= go
KERNEL = build/elver.kernel
COMMAND = build/elver
# The version that the command tells: the tag and what came after it, or the commit.
VERSION = $$(git describe --tags --always --dirty 2>/dev/null)
PREFIX = /usr/local
DESTDIR =
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
QEMU_NEEDS = qemu-system-x86_64=qemu-system-x86
# What the tests run: commands, and Debian's packages that have them.
TEST_NEEDS = $(QEMU_NEEDS) gcc=gcc nm=binutils musl-gcc=musl-tools cpio=cpio xz=xz-utils zstd=zstd bzip2=bzip2 lz4=lz4 \
	gdb=gdb strace=strace git=git ip=iproute2
# Packages that run on the host: all but the tests that boot a VM.
UNIT = $$($(GO) list ./... | grep -v '/test/boot$$')
# What stands on gVisor's network stack is tested with the kernel's copy of it too, and that's own parts.
NETSTACK = ./net/inet gvisor.dev/gvisor/pkg/buffer gvisor.dev/gvisor/pkg/tcpip \
	gvisor.dev/gvisor/pkg/tcpip/transport/tcp gvisor.dev/gvisor/pkg/tcpip/transport/tcp/keyed

MEM = 256
CPUS = 1
APP =
ARGS =
ROOTFS =
NET =
TESTFLAGS =
FUZZTIME = 2m
export APP ARGS ROOTFS

all: command

kernel:
	@mkdir -p build
	$(GO) run ./runtime/mkkernel -o $(KERNEL)

# The kernel is embedded: see cmd/elver/kernel/README.
command: kernel
	cp $(KERNEL) cmd/elver/kernel/elver.kernel
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -X main.version=$(VERSION)" -o $(COMMAND) ./cmd/elver

install: command
	mkdir -p "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/bash-completion/completions" "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"
	cp $(COMMAND) "$(DESTDIR)$(PREFIX)/bin/elver.new" && mv "$(DESTDIR)$(PREFIX)/bin/elver.new" "$(DESTDIR)$(PREFIX)/bin/elver"
	$(COMMAND) completion bash >"$(DESTDIR)$(PREFIX)/share/bash-completion/completions/elver"
	$(COMMAND) completion fish >"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/elver.fish"

uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/bin/elver" "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/elver" \
		"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/elver.fish"

# Without a C compiler the demonstration is a few bytes that a Go program writes.
build/hello: test/helloworld/helloworld.c test/tinyelf/tinyelf.go
	@mkdir -p build
	@if command -v $(CC) >/dev/null 2>&1 && $(CC) -O2 -fPIE -static-pie -o $@ test/helloworld/helloworld.c; then :; \
	else $(GO) run ./test/mkhello $@; fi

run: kernel build/hello
	@scripts/need $(QEMU_NEEDS)
	@set -- -k $(KERNEL) -m $(MEM) -c $(CPUS); \
	if [ -n "$$ROOTFS" ]; then \
		set -- "$$@" -e "$$ROOTFS"; \
		ARGS="$$APP$${ARGS:+ $$ARGS}"; \
	else \
		set -- "$$@" -i "$${APP:-build/hello}"; \
	fi; \
	if [ -n "$$ARGS" ]; then set -- "$$@" -a "$$ARGS"; fi; \
	if [ -n "$(NET)" ]; then set -- "$$@" -n; fi; \
	scripts/qemu-guest "$$@"; status=$$?; \
	echo "make run: the program ended with status $$status" >&2; exit $$status

test: vet staticcheck unit boot

vet:
	@if $(GO) vet ./... && $(GO) vet -tags elver ./arch/... ./cmd/... ./platform/... ./runtime/... ./test/selftest; then echo '--- PASS: go vet'; else echo '--- FAIL: go vet'; exit 1; fi

staticcheck:
	@if $(GO) run $(STATICCHECK) ./...; then echo '--- PASS: staticcheck'; else echo '--- FAIL: staticcheck'; exit 1; fi

# The race detector needs a C compiler.
unit: kernel
	@scripts/need $(TEST_NEEDS)
	$(GO) test -race $(TESTFLAGS) $(UNIT)
	$(GO) test -race -modfile build/sources/kernel.mod $(TESTFLAGS) $(NETSTACK)

boot: command
	@scripts/need $(TEST_NEEDS)
	$(GO) test -count=1 -timeout 60m $(TESTFLAGS) ./test/boot

soak: command
	@scripts/need $(TEST_NEEDS)
	ELVER_SOAK=1 $(GO) test -count=1 -timeout 10h -v $(TESTFLAGS) ./test/boot
	@for f in $$($(GO) list -f '{{.ImportPath}}' ./elf ./boot ./boot/image ./platform/kvm ./net/inet ./net/virtionet ./vfs/cpio ./vfs/ninep ./kernel/bpf ./cmd/elver/rootfs ./cmd/elver/scan); do \
		for t in $$($(GO) test -list '^Fuzz' $$f | grep '^Fuzz'); do \
			$(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x $$f || exit 1; \
		done; \
	done

bench: kernel
	@scripts/need $(QEMU_NEEDS) gcc=gcc ip=iproute2
	$(GO) run ./test/bench

clean:
	rm -rf build test/.cache cmd/elver/kernel/elver.kernel
	$(MAKE) -C test/helloworld clean

.PHONY: all kernel command install uninstall run test vet staticcheck unit boot soak bench clean
