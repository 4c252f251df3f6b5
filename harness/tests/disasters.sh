#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make disasters with bad input: a line that says what is wrong, before anything is started.
# And the program that talks to QEMU's monitor, with a stand-in for that.
. "$(dirname "$0")/lib.sh"

run() { # VARIABLE=VALUE...
	env -u ONLY -u MEMORY -u KERNEL -u BREAK -u LIST BUILD="$tmp/build" "$@" \
		"$TOP/harness/disasters/run"
}

refuses "no such kernel" "KERNEL=base: there are series and debug" run KERNEL=base
refuses "no such group" "ONLY=fire: there are poison" run ONLY="poison fire"
refuses "no such memory" "MEMORY=ext4_pud: there are" run MEMORY="thp ext4_pud"
refuses "no such breakage" "BREAK=all: there are event and byte" run BREAK=all
refuses "no such list" "LIST=no: there is yes" run LIST=no
equals "and nothing was started" "$(ls "$tmp/build" 2>/dev/null)" ""
long=$tmp/$(printf '%0100d' 0)
mkdir -p "$long"
refuses "a folder whose name is too long for a socket" "too long for the monitor's socket" \
	run BUILD="$long"

t "the groups are listed" run LIST=yes
equals "each of them is one of the guest's" \
	"$(run LIST=yes | awk '{ print $1 }' | sort)" \
	"$(sed -n 's/^\(poison|.*\)) ;;$/\1/p' "$TOP/harness/in-guest/disasters-test" |
		tr '|' '\n' | sort)"

# A monitor that answers each command by its length, and echoes it as QEMU does.
cat >"$tmp/monitor" <<'END'
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("up", flush=True)
client, _ = server.accept()
client.sendall(b"QEMU monitor\r\n(qemu) ")
line = b""
while not line.endswith(b"\n"):
    line += client.recv(100)
client.sendall(line[:-1] + b"\x1b[K\r\nhas %d letters\r\n(qemu) " % len(line.strip()))
END
python3 "$tmp/monitor" "$tmp/m" >"$tmp/up" &
for _ in {1..100}; do
	[ ! -s "$tmp/up" ] || break
	sleep 0.1
done
equals "a line for the monitor reaches it, and its answer comes back" \
	"$(printf 'one\n@monitor info it\ntwo\n' | "$TOP/harness/disasters/monitor.py" "$tmp/m")" \
	"$(printf 'one\n# monitor: info it\n#   has 7 letters\ntwo')"
wait
equals "without a monitor, that is a failure" \
	"$(echo '@monitor info it' | "$TOP/harness/disasters/monitor.py" "$tmp/none" | cut -c1-45)" \
	"not ok the monitor does not take 'info it': ["
equals "monitor.py without a socket says how it is called" \
	"$("$TOP/harness/disasters/monitor.py" 2>&1)" "usage: monitor.py SOCKET"
finish
