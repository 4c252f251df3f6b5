#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make peers: what counts as failed. The guests are stand-ins.
. "$(dirname "$0")/lib.sh"

mkdir -p "$tmp/harness/peers" "$tmp/build" "$tmp/tree"
cp "$TOP/harness/peers/peers.py" "$tmp/harness/peers"
cat >"$tmp/harness/guest" <<END
#!/bin/bash
echo "\$KERNEL: \$RUN" >>"$tmp/ran"
cat "$tmp/\$KERNEL"
exit \$(cat "$tmp/\$KERNEL.status" 2>/dev/null || echo 0)
END
chmod +x "$tmp/harness/guest"
peers() { # [VARIABLE=VALUE...]
	env BUILD="$tmp/build" ONLY=fio "$@" "$tmp/harness/peers/peers.py" 2>/dev/null
}
# verdict BASE SERIES: the last line for a test with these results
verdict() {
	echo "$1" >"$tmp/base"
	echo "$2" >"$tmp/series"
	peers | tail -n 1
}
unset XFSTESTS NDCTL MIRROR TESTS LIST

# The guest itself is one that passes.
equals "passes on both" "$(verdict 'ok a' 'ok a')" "2 passed, 0 failed, 0 skipped"
equals "fails on the series" "$(verdict 'ok a' 'not ok a')" "1 passed, 1 failed, 0 skipped"
equals "fails on the base" "$(verdict 'not ok a' 'ok a')" "2 passed, 0 failed, 0 skipped"
equals "fails on both" "$(verdict 'not ok a' 'not ok a')" "1 passed, 0 failed, 1 skipped"
t "and is listed" grep -qx '    fio a' <(peers)
equals "has no result on the series" "$(verdict $'ok a\nok b' 'ok b')" \
	"2 passed, 1 failed, 0 skipped"
equals "is skipped on the series" "$(verdict 'ok a' 'ok a # SKIP no')" \
	"1 passed, 1 failed, 0 skipped"
equals "is skipped on both" "$(verdict 'ok a # SKIP' 'ok a # SKIP')" \
	"1 passed, 0 failed, 1 skipped"
equals "fails on the series, and has no result on the base" "$(verdict '' 'not ok a')" \
	"1 passed, 1 failed, 0 skipped"
equals "fails once" "$(verdict 'ok a' $'not ok a\nok a')" "1 passed, 1 failed, 0 skipped"
echo 125 >"$tmp/series.status"
equals "the series' kernel complains" "$(verdict 'ok a' 'ok a')" "1 passed, 1 failed, 0 skipped"
peers >/dev/null
equals "the status" $? 1
echo 126 >"$tmp/base.status"
equals "both guests fail" "$(verdict 'ok a' 'ok a')" "1 passed, 0 failed, 1 skipped"
rm "$tmp"/{base,series}.status
equals "nothing ran" "$(verdict '' '')" "0 passed, 1 failed, 0 skipped"

equals "a tree that is not given" "$(peers ONLY=ndctl | tail -n 1)" \
	"0 passed, 0 failed, 1 skipped"
peers ONLY=ndctl NDCTL="$tmp/tree" >/dev/null
t "a tree that is given" grep -q "NDCTL=$tmp/tree .*/peers/ndctl" "$tmp/ran"
open=$(mktemp -d /tmp/peers.XXXXXX)
trap 'rm -rf "$tmp" "$open"' EXIT
bad() { env BUILD="$tmp/build" "$@" "$tmp/harness/peers/peers.py"; }
refuses "a tree that the guest cannot see" "files of its own" bad ONLY=ndctl NDCTL="$open"
refuses "a tree that is none" "is not a folder" bad ONLY=ndctl NDCTL="$tmp/none"
refuses "no such suite" "ONLY: no suite is named such" bad ONLY=such
refuses "nor in the list" "ONLY: no suite is named such" bad ONLY=such LIST=yes
equals "LIST=yes: those of ONLY" "$(peers LIST=yes ONLY='fio ndctl' | cut -d' ' -f1)" $'fio\nndctl'
rm -f "$tmp/ran"
refuses "an argument" "takes no arguments: .*--wrong" "$tmp/harness/peers/peers.py" --wrong
t "before any guest" test ! -e "$tmp/ran"

# What it runs goes when it is told to stop.
cat >"$tmp/harness/guest" <<END
#!/bin/bash
trap 'kill \$!; exit 143' TERM
sleep 1234.75 &
touch "$tmp/ran"
wait
END
for signal in INT TERM; do
	rm -f "$tmp/ran"
	# In a shell of its own, as the tests are one that ignores SIGINT in the background.
	env BUILD="$tmp/build" ONLY=fio python3 -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' "$tmp/harness/peers/peers.py" >"$tmp/said" 2>&1 &
	for _ in $(seq 100); do [ ! -e "$tmp/ran" ] || break; sleep 0.1; done
	kill -s $signal $!
	wait $!
	status=$?
	equals "SIG$signal: its status, and no guest goes on" "$status $(pgrep -fc 'sleep 1234\.75')" \
		"$([ $signal = INT ] && echo 130 || echo 143) 0"
done
finish
