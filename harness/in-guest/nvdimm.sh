# SPDX-License-Identifier: GPL-2.0
# Sourced by what sets NVDIMMs up in the guest.
# shellcheck shell=bash

# quiet COMMAND...: nothing to say unless it fails
quiet() {
	local out
	out=$("$@" 2>&1) || { echo "$*: $out" >&2; exit 1; }
}

# The regions by size: their numbers do not follow the order of the NVDIMMs. (Python takes
# seconds to start in an emulated guest, ten on the debug kernel.)
regions() {
	local r
	for r in /sys/bus/nd/devices/region*; do echo "$(<"$r/size") ${r##*/}"; done |
		sort -n | cut -d' ' -f2
}

# Empty labels, so that a region can hold several namespaces.
empty_labels() {
	quiet ndctl disable-region all
	quiet ndctl init-labels -f all
	quiet ndctl enable-region all
}

# node JSON: the device node of a namespace, as ndctl prints it
node() { sed -nE 's/.*"(blockdev|chardev)":"([^"]*)".*/\/dev\/\2/p' <<<"$1"; }
