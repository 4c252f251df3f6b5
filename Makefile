# SPDX-License-Identifier: GPL-2.0
#
# The front door. Kernel targets take LINUX=/path/to/a/7.3.y/tree as the base
# instead of fetching one.

.DEFAULT_GOAL := help
.PHONY: help demo check guest bench matrix coverage stress powercuts peers compat tree export series lint mutants clean
MAKEFLAGS += --no-print-directory

# The values reach the scripts as they were given: RUN='echo $$?' means that.
override RUN := $(value RUN)
override T := $(value T)
export RUN LINUX FILE KERNEL FORCE ACCEL GUEST_TIMEOUT SPLAT FAULTS PMEM P2PDMA V SET ONLY LIST T TESTS
export MODULE XFSTESTS NDCTL MIRROR
export ARCH PAGES IOMMU DAX CONFIG MEM CPUS QEMU QEMU_OPTS APPEND GDB CLOCK BOOT_TIMEOUT JOBS
export SEED WORKER OPS CORRUPT CUTS BROKEN

# bash has a variable of this name, which counts.
unexport SECONDS
export STRESS_SECONDS := $(value SECONDS)

# Debian's git-email only recommends what it cannot do without.
mail := git-email libmailtools-perl
lint := codespell clang-19 lld-19 llvm-19 sparse coccinelle python3-sphinx graphviz

help:
	@echo 'make demo [FILE=path]   build, boot, and let a device mirror that file on DAX (20'
	@echo '                        to 30 minutes the first time, half a minute later)'
	@echo 'make check [FAULTS=n]   every test; the last line counts them (about two hours the'
	@echo '                        first time, one later). n range faults in each race of hmm_leaves'
	@echo 'make check T=list       its steps, and how long each took'
	@echo 'make check T="word..."  the steps whose name has one of the words in it; of these,'
	@echo '                        with T=word:test, one test (about a minute)'
	@echo 'make guest [KERNEL=series|base|debug] [RUN=command]'
	@echo '                        that kernel in QEMU: a shell, or one command and its status'
	@echo '        [ARCH=arm64|riscv64|ppc64le] [PAGES=64k] [IOMMU=amd|virtio|...] [DAX=cxl|...]'
	@echo '                        on another machine; harness/guest has them all'
	@echo 'make matrix [ONLY=rows] [TESTS=columns] [LIST=yes]'
	@echo '                        the tests on all of these (hours)'
	@echo 'make coverage           the lines and branches of the series that the tests run'
	@echo 'make stress [SECONDS=n] [SEED=n] [KERNEL=series|debug]'
	@echo '                        random operations on all memory by all devices, against a model'
	@echo '                        (2 minutes); a failure prints the command that repeats it'
	@echo 'make peers [ONLY=suites] [XFSTESTS=tree] [NDCTL=tree] [MIRROR=yes] [LIST=yes]'
	@echo '                        other suites of DAX, on base and series side by side; with a'
	@echo '                        device that mirrors all they map'
	@echo 'make compat MODULE=folder'
	@echo '                        compile a driver that is not in the kernel against base and'
	@echo '                        series, and show each difference'
	@echo 'make bench              the cost in guest instructions, base against series'
	@echo 'make tree               series/ and the added files -> git branch in build/linux'
	@echo 'make tree LINUX=tree REHEARSE=yes [SET="name..."]'
	@echo '                        what each patch would meet on that tree, of any version'
	@echo 'make export             and back'
	@echo 'make series [V=n] [SET="name..."]'
	@echo '                        build/series/: mails with a cover letter, for git send-email;'
	@echo '                        version n; sets of series/sets, each as a thread of its own'
	@echo 'make lint [BOOT=yes]    static checks of the series, patch by patch, and of the harness'
	@echo '                        (a quarter of an hour); with BOOT=yes each patch also boots'
	@echo '                        and has to pass its tests (hours)'
	@echo 'make mutants [ONLY=text] [LIST=yes]'
	@echo '                        take one protection after another out of the kernel, and'
	@echo '                        see the test fail that is there for it (hours)'
	@echo 'make powercuts [CUTS=200] [SEED=number]'
	@echo '                        kill guests in which devices write files, and look whether'
	@echo '                        all that was synced is there'
	@echo 'make clean              remove build/ (what was downloaded and built stays in the cache folder)'
	@echo 'All take LINUX=tree, BUILD=folder, DEPS=install|print|skip, FORCE=1; the guest takes more:'
	@echo 'see README.md, "To hack", and the head of harness/guest.'

demo:
	@harness/deps && harness/demo/demo

check:
	@$(if $(filter list,$(T)),,harness/deps $(mail) b4 codespell &&) harness/check/check

guest:
	@harness/deps && harness/prepare "$${KERNEL:-series}" && harness/guest

bench:
	@harness/deps gnuplot-nox && \
		harness/prepare $(if $(filter-out x86_64,$(ARCH)),,base) series && harness/bench/bench.py

matrix:
	@$(if $(LIST),,harness/deps &&) harness/check/matrix

coverage:
	@harness/deps && harness/check/coverage

peers:
	@$(if $(LIST),,harness/deps fio pmdk-tools $(if $(XFSTESTS),acl attr quota) && \
		harness/prepare base series &&) harness/peers/peers.py

compat:
	@harness/deps && harness/prepare base series && harness/peers/compat

stress:
	@harness/deps && harness/prepare "$${KERNEL:-series}" && harness/stress/run

tree:
	@harness/deps && $(if $(REHEARSE),LINUX= harness/base && LINUX= harness/series tree && \
		harness/patches/rehearse.py,harness/base && harness/series tree)

export:
	@harness/series export

series:
	@harness/deps $(mail) && harness/base && harness/series tree && harness/patches/mail.py

lint:
	@harness/deps $(lint) && harness/base && harness/series tree && \
		harness/lint/lint && harness/each-patch $(if $(filter yes,$(BOOT)),boot) && harness/lint/tools

mutants:
	@harness/deps && harness/base && harness/series tree && harness/check/mutants.py

powercuts:
	@harness/deps && harness/prepare "$${KERNEL:-series}" && harness/powercuts/powercuts.py

clean:
	@test -n "$(FORCE)" || harness/series idle
	rm -rf "$${BUILD:-build}"
