#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make guest: status, output, time limit, clean-up, bad input.
. "$(dirname "$0")/lib.sh"

export KERNEL=series
unset ACCEL GUEST_TIMEOUT BOOT_TIMEOUT SPLAT KERNEL_LOG
guest() { RUN=$1 "$TOP/harness/guest"; }
status() { guest "$1" >"$tmp/said" 2>&1; echo $?; }
stray() {
	pgrep -f "hmm_dax.run=$BUILD" ||
		find "$BUILD/guest" /dev/shm -name 'run.*' -o -name '*hmm?dax*'
}

equals "the command's status comes back" "$(status 'exit 7')" 7
equals "its output, byte for byte, and nothing else" \
	"$(guest 'printf "a\tb\r\n\377 %s\n" "$HOME"; echo err >&2; head -c 100000 /dev/zero' \
		2>/dev/null | sha256sum)" \
	"$({ printf 'a\tb\r\n\377 /run\nerr\n'; head -c 100000 /dev/zero; } | sha256sum)"
equals "make guest gives the status and takes RUN literally" \
	"$(make -s -C "$TOP" guest RUN='x=5; test $x = 5 && exit $((x + 1))' >"$tmp/out" 2>&1
		echo $?; grep -c 'Error 6' "$tmp/out")" "2
1"
t "without RUN, a shell" bash -c "printf 'echo in\$((1 + 1))side\nexit\n' |
	KERNEL=series '$TOP/harness/guest' | grep -q in2side"
start=$SECONDS
t "make guest RUN=true" make -s -C "$TOP" guest RUN=true
echo "# which took $((SECONDS - start)) s; on an idle machine it is under 10"
t "root, tmpfs on /tmp /run /mnt, host paths, modules, edu, NVDIMMs, strict IOMMU" guest "
	set -e
	[ \$(id -u) = 0 ]
	for d in /tmp /run /mnt; do touch \$d/x; done
	if touch $TOP/x 2>/dev/null; then exit 1; fi
	[ -f $TOP/harness/guest ]
	modprobe test_hmm
	[ -c /dev/hmm_dmirror0 ]
	grep -q 0x11e8 /sys/bus/pci/devices/*/device
	[ \$(ls -d /sys/bus/nd/devices/nmem* | wc -l) = 2 ]
	grep -q '^DMA\$' /sys/kernel/iommu_groups/*/type
	[ \$(nproc) = 2 ]"
equals "time is up: 124" "$(GUEST_TIMEOUT=6 status 'sleep 60')" 124
t "a line that says so" grep -q 'GUEST_TIMEOUT=6' "$tmp/said"
equals "a guest that dies: 126" "$(status 'echo c >/proc/sysrq-trigger; sleep 5')" 126
equals "a splat: 125" "$(status 'echo "WARNING: CPU: 0 at test" >/dev/kmsg')" 125
equals "a splat that is expected: 0" \
	"$(SPLAT=ok status 'echo "WARNING: CPU: 0 at test" >/dev/kmsg')" 0

guest 'sleep 1; exit 3' >"$tmp/one" 2>&1 & one=$!
guest 'sleep 1; exit 4' >"$tmp/two" 2>&1 & two=$!
wait $one; one=$?
wait $two; equals "two guests at once" "$one $?" "3 4"

# A guest that hangs: a QEMU that, as often as $tmp/hang says, starts a kernel whose
# process 1 only sleeps.
mkdir "$tmp/bin"
cat >"$tmp/bin/qemu-system-x86_64" <<'END'
#!/bin/bash
cd "$(dirname "$0")/.." && echo >>qemus && n=$(<hang)
if ((n)); then
	echo $((n - 1)) >hang
	set -- "${@/ init=*in-guest\/init / init=/usr/bin/sleep }"
	set -- "${@/%hmm_dax.spm=*/-- 600}"
fi
PATH=${PATH#*:}
exec qemu-system-x86_64 "$@"
END
chmod +x "$tmp/bin/qemu-system-x86_64"
hangs() { # TIMES: then "$@", which boots a guest
	echo "$1" >"$tmp/hang"
	: >"$tmp/qemus"
	PATH=$tmp/bin:$PATH BOOT_TIMEOUT=15 "${@:2}"
}
equals "a guest that hangs is started again: the command's status" "$(hangs 1 status 'exit 7')" 7
t "a line says so" grep -q \
	'silent for BOOT_TIMEOUT=15 seconds before it was up and is started once more' \
	"$tmp/said"
equals "of the two the first is gone, the second ran" "$(wc -l <"$tmp/qemus"; stray)" 2
t "the log of the one that hung is kept" grep -q 'Run /usr/bin/sleep as init' \
	"$BUILD/guest/series.hung.log"
equals "a guest that hangs twice: 126" "$(hangs 2 status 'exit 7')" 126
t "a line says so" grep -q 'started twice and was silent for BOOT_TIMEOUT=15 seconds' "$tmp/said"
equals "and not a third time" "$(wc -l <"$tmp/qemus"; stray)" 2
equals "the shell of the second start gets all input" \
	"$(printf 'echo in$((1 + 1))side\nexit\n' | hangs 1 "$TOP/harness/guest" 2>/dev/null |
		grep -c in2side)" 1
start=$SECONDS
equals "time is up, hang or not: 124" "$(GUEST_TIMEOUT=28 hangs 2 status true)" 124
t "after that time" test $((SECONDS - start)) -le 30
BOOT_TIMEOUT=soon refuses "a wrong BOOT_TIMEOUT" "BOOT_TIMEOUT=soon: give a number of seconds" \
	guest true

# Ctrl-C, a kill, and a kill that nothing can clean up after.
for case in "INT 130" "TERM 143" "KILL 137"; do
	read -r signal wanted <<<"$case"
	RUN='sleep 60' setsid env --default-signal=INT "$TOP/harness/guest" >"$tmp/out" 2>&1 &
	script=$!
	sleep 2
	pgrep -f "hmm_dax.run=$BUILD" >/dev/null || not_ok "SIG$signal: no QEMU to begin with"
	if [ "$signal" = KILL ]; then kill -KILL $script; else kill "-$signal" -- -$script; fi
	wait $script 2>/dev/null
	equals "SIG$signal ends it" $? "$wanted"
	sleep 0.5
	# What a SIGKILL leaves goes with the next run.
	[ "$signal" != KILL ] || equals "the next guest runs" "$(status 'exit 6')" 6
	equals "SIG$signal leaves no QEMU and no file" "$(stray)" ""
done

KERNEL=other refuses "a wrong KERNEL" "KERNEL=other: there are base, series, debug and kcsan" guest true
ACCEL=xen refuses "a wrong ACCEL" "ACCEL=xen: with ARCH=x86_64 there are tcg kvm" guest true
ARCH=mips refuses "a wrong ARCH" "ARCH=mips: there are x86_64, arm64" guest true
PAGES=64k refuses "pages that it has not got" "PAGES=64k: x86_64 has 4k" guest true
CONFIG=numa refuses "a wrong CONFIG" "'numa' is not like OPTION=y" guest true
IOMMU=smmuv3 refuses "another machine's IOMMU" "IOMMU=smmuv3: with ARCH=x86_64 there are intel" \
	guest true
DAX=dt refuses "another machine's memory" "DAX=dt: with ARCH=x86_64 there are nvdimm" guest true
DAX=e820 PMEM=$tmp refuses "files for what is no NVDIMM" "with DAX=e820 there are no NVDIMMs" \
	guest true
MEM=some refuses "a wrong MEM" "MEM=some: give a number of MiB" guest true
MEM=512 refuses "too small a MEM" "MEM=512: at least 2816" guest true
QEMU=/none/qemu refuses "no such QEMU" "there is no /none/qemu" guest true
equals "CPUS, MEM and APPEND" "$(CPUS=3 MEM=3328 APPEND=no5lvl status '
	[ $(nproc) = 3 ] && grep -q " no5lvl" /proc/cmdline &&
	[ $(awk "/MemTotal/ { print (\$2 > 2600000) }" /proc/meminfo) = 1 ]')" 0
# harness/tests/check.sh has the rest of make check T=step:filter.
t "KUnit's filter: no test is a failure, and other suites need not have run" guest '
	glob=/sys/module/kunit/parameters/filter_glob
	modprobe kunit enable=1 autorun=1 filter_glob=hmm_blocks.none &&
		modprobe hmm_blocks_kunit || exit
	! kunit-results hmm_blocks && rmmod hmm_blocks_kunit || exit
	printf hmm_blocks.test_random >$glob && modprobe hmm_blocks_kunit || exit
	[ "$(kunit-results hmm_dma hmm_blocks)" = "ok 1 test_random" ]'
GUEST_TIMEOUT=soon refuses "a wrong GUEST_TIMEOUT" "give a number of seconds" guest true
BUILD=$tmp/none refuses "no kernel yet" "no series kernel yet" guest true
# The guest knows by what it runs: 5 is KVM, 6 is not.
by=$(ACCEL=kvm status 'dmesg | grep -q "Hypervisor detected: KVM" && exit 5; exit 6')
t "ACCEL=kvm: the command runs, by KVM or by the fallback" test "$by" = 5 -o "$by" = 6
equals "and a fallback is said, no other" "$(grep -c 'falling back to tcg' "$tmp/said")" \
	$((by == 6))
FILE=$tmp/nofile refuses "demo: FILE= no such file" "no such file" "$TOP/harness/demo/demo"
: >"$tmp/empty"
FILE=$tmp/empty refuses "demo: FILE= an empty file" "is empty" "$TOP/harness/demo/demo"
truncate -s 1G "$tmp/large"
FILE=$tmp/large refuses "demo: FILE= too large" "larger than" "$TOP/harness/demo/demo"
finish
