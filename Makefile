# SPDX-License-Identifier: GPL-2.0
#
# The front door. Kernel targets take LINUX=/path/to/a/7.3.y/tree as the base
# instead of fetching one. BASE=6.12 is for the series for Linux 6.12.y.

.DEFAULT_GOAL := help
.PHONY: help demo check guest bench matrix coverage kcsan stress fuzz sweep scale disasters powercuts peers compat tree export series lint mutants clean
MAKEFLAGS += --no-print-directory
# What is given here is no option of a make that a script calls.
MAKEOVERRIDES :=

# Options that not every target takes. The others refuse them, before they start anything.
options := FILE T FAULTS KERNEL RUN ONLY LIST TESTS XFSTESTS NDCTL MIRROR MODULE SECONDS SEED \
	WORKER OPS CORRUPT CUTS BROKEN MEMORY BREAK REHEARSE SET V BOOT CALLS \
	ROUND LIMIT DROP
given := $(foreach o,$(options),$(if $(filter command,$(origin $(o))),$(o)))
takes = $(foreach o,$(filter-out $(1),$(given)),$(error hmm-dax: make $@ takes no $(o)=))

# The values reach the scripts as they were given: RUN='echo $$?' means that.
override RUN := $(value RUN)
override T := $(value T)
export BASE RUN LINUX FILE KERNEL FORCE ACCEL GUEST_TIMEOUT SPLAT FAULTS PMEM P2PDMA V SET ONLY LIST T TESTS
export MODULE XFSTESTS NDCTL MIRROR
export ARCH PAGES IOMMU DAX CONFIG MEM CPUS QEMU QEMU_OPTS APPEND GDB CLOCK BOOT_TIMEOUT JOBS
export SEED WORKER OPS CORRUPT CUTS BROKEN MEMORY BREAK CALLS ROUND LIMIT DROP

# bash has a variable of this name, which counts.
unexport SECONDS
export STRESS_SECONDS := $(value SECONDS)

other := $(filter-out 7.3,$(BASE))
ifneq ($(and $(other),$(filter-out help demo check guest tree export clean,$(MAKECMDGOALS))$(REHEARSE)),)
$(error BASE=$(BASE) is for make demo, check, guest, tree, export and clean alone)
endif

# Debian's git-email only recommends what it cannot do without.
mail := git-email libmailtools-perl
lint := codespell clang-19 lld-19 llvm-19 sparse coccinelle python3-sphinx graphviz

help:
	@echo 'make demo [FILE=path]   build, boot, and let a device mirror that file on DAX (20'
	@echo '                        to 30 minutes the first time, half a minute later)'
	@echo 'make check              the tests of the series, on one machine, and of the harness; the'
	@echo '                        last line counts them (about two hours the first time, one later)'
	@echo '        [FAULTS=n]      n range faults in each race of hmm_leaves'
	@echo 'make check T=list       its steps, and how long each took'
	@echo 'make check T="word..."  the steps that have one of the words in their names'
	@echo 'make check T=word:test  this test, in steps whose names start with the word (a minute)'
	@echo 'make guest [KERNEL=series|base|debug|kcsan] [RUN=command]'
	@echo '                        that kernel in QEMU: a shell, or one command and its status'
	@echo '        [ARCH=arm64|riscv64|ppc64le|i386] [PAGES=64k] [IOMMU=amd|...] [DAX=e820|...]'
	@echo '                        on another machine; the head of harness/guest lists all'
	@echo 'make matrix [ONLY=rows] [TESTS=columns] [LIST=yes]'
	@echo '                        run the tests on every machine that make guest supports (hours)'
	@echo 'make coverage [TESTS=suites]'
	@echo '                        the lines and branches of the series that the tests run'
	@echo 'make kcsan [TESTS=suites]'
	@echo '                        all suites on a kernel that looks for data races, undefined'
	@echo '                        behaviour and leaked memory (hours)'
	@echo 'make stress [SECONDS=n] [SEED=n] [KERNEL=series|debug|kcsan]'
	@echo '                        random operations on all memory by all devices, against a model'
	@echo '                        (2 minutes); a failure prints the command that repeats it'
	@echo 'make scale [ONLY=cases] [SECONDS=n] [KERNEL=series|debug|kcsan]'
	@echo '                        many processes, leaves and windows, little memory, and how'
	@echo '                        long munmap() takes meanwhile (10 minutes)'
	@echo 'make fuzz [CALLS=n] [SEED=n] [KERNEL=debug|series]'
	@echo '                        bad input for every request of the test drivers (100,000 calls);'
	@echo '                        a failure prints the command that repeats it'
	@echo 'make sweep [ONLY=tests] [BROKEN=record|memory|never]'
	@echo '                        let each allocation of HMM, of DMA windows and of their users fail'
	@echo '                        once, on all memory of the debug kernel (an hour)'
	@echo 'make disasters [ONLY=groups] [MEMORY=names] [LIST=yes] [KERNEL=series|debug]'
	@echo '                        memory breaks, moves or goes away, and devices are unplugged,'
	@echo '                        while devices access it (half an hour; debug: two hours)'
	@echo 'make peers [ONLY=suites] [XFSTESTS=tree] [NDCTL=tree] [MIRROR=yes] [LIST=yes]'
	@echo '                        other suites of DAX, on base and series side by side; with'
	@echo '                        MIRROR=yes, a device mirrors all that they map'
	@echo 'make compat MODULE=folder'
	@echo '                        compile a driver that is not in the kernel against base and'
	@echo '                        series, and show each difference'
	@echo 'make bench [ARCH=riscv64]'
	@echo '                        the cost in guest instructions, base against series'
	@echo 'make tree               series/ and the added files -> git branch in build/linux'
	@echo 'make tree LINUX=tree REHEARSE=yes [SET="name..."]'
	@echo '                        does each patch apply to that tree, of any version?'
	@echo 'make export             the branch in build/linux -> series/ and the added files'
	@echo 'make series [V=n] [SET="name..."]'
	@echo '                        build/series/: mails with a cover letter, for git send-email;'
	@echo '                        version n; sets of series/sets, each as a thread of its own'
	@echo 'make lint [BOOT=yes]    static checks of the series, patch by patch, and of the harness'
	@echo '                        (a quarter of an hour, once the patches have been compiled);'
	@echo '                        BOOT=yes: each patch also boots and has to pass its tests (hours)'
	@echo 'make mutants [ONLY=text] [LIST=yes]'
	@echo '                        take one protection after another out of the kernel, and'
	@echo '                        see the test fail that is there for it (hours)'
	@echo 'make powercuts [CUTS=200] [SEED=number] [KERNEL=series|debug]'
	@echo '                        kill guests in which devices write files, and look whether'
	@echo '                        all that was synced is there'
	@echo 'make clean              remove build/ (what was downloaded and built stays in the cache folder)'
	@echo 'BASE=6.12 make demo|check|guest|tree|export|clean'
	@echo '                        the same with series-6.12/ on Linux 6.12.y, in build/6.12'
	@echo
	@echo 'All take LINUX=tree, BUILD=folder, DEPS=install|print|skip. With FORCE=1, what is in the'
	@echo 'cache is compiled again, and tree, export and clean go on if they lose work by that.'
	@echo 'Those that boot guests take more: see README.md, "The guest".'

demo:
	@$(call takes,FILE)harness/deps && harness/demo/demo

check:
	@$(call takes,T FAULTS SEED)$(if $(filter list,$(T)),,harness/deps $(mail) b4 codespell &&) \
		harness/check/check

guest:
	@$(call takes,KERNEL RUN)harness/deps && harness/prepare "$${KERNEL:-series}" && harness/guest

bench:
	@$(call takes,)harness/deps gnuplot-nox && \
		harness/prepare $(if $(filter-out x86_64,$(ARCH)),,base) series && harness/bench/bench.py

matrix:
	@$(call takes,ONLY TESTS LIST FAULTS)$(if $(LIST),,LIST=yes harness/check/matrix >/dev/null && \
		harness/deps &&) harness/check/matrix

coverage:
	@$(call takes,TESTS FAULTS)harness/deps && harness/check/coverage

kcsan:
	@$(call takes,TESTS FAULTS SEED)harness/deps && harness/check/kcsan

peers:
	@$(call takes,ONLY LIST TESTS XFSTESTS NDCTL MIRROR)$(if $(LIST),, \
		LIST=yes harness/peers/peers.py >/dev/null && \
		harness/deps fio pmdk-tools $(if $(XFSTESTS),acl attr quota) && \
		harness/prepare base series &&) harness/peers/peers.py

compat:
	@$(call takes,MODULE)harness/deps && harness/prepare base series && harness/peers/compat

stress:
	@$(call takes,KERNEL SECONDS SEED WORKER OPS CORRUPT)harness/deps && \
		harness/prepare "$${KERNEL:-series}" && harness/stress/run

scale:
	@$(call takes,KERNEL SECONDS ONLY)harness/deps && \
		harness/prepare "$${KERNEL:-series}" && harness/scale/run

fuzz:
	@$(call takes,KERNEL CALLS SEED ROUND WORKER LIMIT DROP CORRUPT)harness/deps && \
		harness/prepare "$${KERNEL:-debug}" && harness/fuzz/run

sweep:
	@$(call takes,KERNEL ONLY BROKEN)harness/deps && harness/prepare debug && harness/sweep/run

disasters:
	@$(call takes,KERNEL ONLY MEMORY BREAK LIST)$(if $(LIST),, \
		LIST=check harness/disasters/run && harness/deps && \
		harness/prepare "$${KERNEL:-series}" &&) harness/disasters/run

# FORCE=1 overwrites the other side's work only where that is asked for.
tree:
	@harness/deps && $(if $(REHEARSE),LINUX= harness/base && LINUX= harness/series tree && \
		harness/patches/rehearse.py,harness/base && harness/series tree $(if $(FORCE),force))

export:
	@harness/series export $(if $(FORCE),force)

series:
	@harness/deps $(mail) && harness/base && harness/series tree && harness/patches/mail.py

lint:
	@$(call takes,BOOT)harness/deps $(lint) && harness/base && harness/series tree && \
		harness/lint/lint && harness/each-patch $(if $(filter yes,$(BOOT)),boot) && harness/lint/tools

mutants:
	@$(call takes,ONLY LIST)harness/deps && harness/base && harness/series tree && harness/check/mutants.py

powercuts:
	@$(call takes,KERNEL CUTS SEED BROKEN)harness/deps && \
		harness/prepare "$${KERNEL:-series}" && harness/powercuts/powercuts.py

clean:
	@test -n "$(FORCE)" || { harness/series idle$(if $(BUILD)$(other),, && \
		BASE=6.12 harness/series idle); }
	rm -rf "$${BUILD:-build$(if $(other),/$(other))}"
