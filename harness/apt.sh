# SPDX-License-Identifier: GPL-2.0
# Sourced: packages of other suites and other architectures than this machine's.
# shellcheck shell=bash

apt=$CACHE/apt
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# apt_sources MIRROR SUITE: what apt_private is to know.
apt_sources() {
	mkdir -p "$apt"/{state,lists/partial,cache/archives/partial}
	echo "deb [signed-by=$keyring] $1 $2 main" >"$apt/sources.list"
}

# apt_private PROGRAM ARGS...: apt-get with a configuration, lists and cache of its
# own; the system's are neither read for sources nor written.
apt_private() {
	"$1" -q \
		-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- \
		-o Dir::State="$apt/state" -o Dir::State::Lists="$apt/lists" \
		-o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache" \
		-o APT::Sandbox::User= -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
		-o Acquire::IndexTargets::deb::Translations::DefaultEnabled=false \
		-o Acquire::Languages=none -o Acquire::Retries=2 -o APT::Update::Error-Mode=any "${@:2}"
}

# The mirror this machine is set up for; no host is written down here.
mirror() {
	apt-get update --print-uris 2>/dev/null | sed -n "s,^'\([^']*\)/dists/.*,\1,p" |
		grep -v security | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }'
}
