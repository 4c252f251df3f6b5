#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# tree and export on a small kernel tree: the base's files that the series
# touches, moved by some lines and called 7.3.99, so that what holds here holds
# on another 7.3.y.
. "$(dirname "$0")/lib.sh"

real=$BUILD
repo=$tmp/repo
mini=$tmp/mini

# A copy of this repository as git would commit it.
mkdir -p "$repo" "$mini"
copy_clone "$repo"
git -C "$repo" init -q
git -C "$repo" config user.name test
git -C "$repo" config user.email test@localhost
git -C "$repo" add -A
git -C "$repo" commit -qm copy
export BUILD=$repo/build
unset FORCE

# Three empty lines before everything: no hunk is where the patch says.
sed -n 's,^--- a/,,p' "$repo"/series/*.patch | sort -u | while read -r f; do
	[ -f "$real/base/linux/$f" ] || continue
	mkdir -p "$mini/$(dirname "$f")"
	{ printf '\n\n\n'; cat "$real/base/linux/$f"; } >"$mini/$f"
	chmod --reference="$real/base/linux/$f" "$mini/$f"
done
printf 'VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 99\nEXTRAVERSION =\n' >"$mini/Makefile"
echo hello >"$mini/README"
export LINUX=$mini

linux=$BUILD/linux
series() { "$repo/harness/series" "$@"; }
base() { "$repo/harness/base"; }
lgit() { git -C "$linux" -c user.name=test -c user.email=test@localhost "$@"; }
undo() { # back to the series as committed
	git -C "$repo" reset -q --hard
	git -C "$repo" clean -qfd
	series tree force
}

t "base: LINUX= an unpacked tree" base
t "tree: applies to another 7.3.y" series tree
equals "tree: one commit a patch" "$(lgit rev-list --count hmm-dax-base..HEAD)" \
	"$(find "$repo/series" -name '*.patch' | wc -l)"
t "export" series export
equals "tree and export change nothing" "$(git -C "$repo" status --porcelain)" ""
rm -rf "$linux"
series tree 2>/dev/null
equals "and nothing again from a fresh tree" \
	"$(series export 2>&1 >/dev/null | grep -c exported)$(git -C "$repo" status --porcelain)" \
	1

# A developer's day: a new file, later changed by another commit, an
# executable, a fixup, a removal of lines, odd names in the message.
clean=$(lgit rev-parse 'HEAD^{tree}')
mkdir -p "$linux/mm"
printf 'one\ntwo\nthree\n' >"$linux/mm/hmm_new.c"
printf '#!/bin/sh\n' >"$linux/mm/hmm_new.sh"
chmod +x "$linux/mm/hmm_new.sh"
lgit add -A
GIT_AUTHOR_NAME='Jérôme Test' lgit commit -qm 'mm: add a file: "quotes", ümlauts' -m 'Body with a
  --- indented line and From here.'
sed -i 's/two/2/' "$linux/mm/hmm_new.c"
echo world >>"$linux/README"
lgit commit -qam "mm: change both"
echo 4 >>"$linux/mm/hmm_new.c"
lgit commit -qam "mm: change it again"
before=$(lgit rev-parse 'HEAD^{tree}')
log=$(lgit log --format='%an %ae %at %B' hmm-dax-base..)
t "export: new commits" series export
equals "export: the new file stands whole, in its final state" \
	"$(cat "$repo/mm/hmm_new.c" 2>/dev/null)" "$(printf 'one\n2\nthree\n4')"
equals "export: no new file inside a patch" "$(grep -l '^new file mode' "$repo"/series/*.patch)" ""
rm -rf "$linux"
t "tree: with them" series tree
equals "the same tree comes back" "$(lgit rev-parse 'HEAD^{tree}')" "$before"
equals "the same messages, authors and dates too" \
	"$(lgit log --format='%an %ae %at %B' hmm-dax-base..)" "$log"
equals "every state in between is right" "$(lgit show HEAD~2:mm/hmm_new.c)" \
	"$(printf 'one\ntwo\nthree')"

# Nothing is lost.
echo edit >>"$linux/README"
echo >>"$repo/mm/hmm_new.c"
refuses "tree: work on both sides is not overwritten" "not exported" series tree
FORCE=1 refuses "nor with FORCE=1, unless make tree is what calls" "not exported" series tree
equals "and it is still there" "$(tail -n 1 "$linux/README")" edit
sed -i '$d' "$repo/mm/hmm_new.c"
t "tree: work in build/linux alone is kept" series tree
equals "and is still there" "$(tail -n 1 "$linux/README")" edit
refuses "export: uncommitted changes" "uncommitted" series export
lgit checkout -q README
echo >>"$repo/mm/hmm_new.c"
refuses "export: a file edited in the repository is not overwritten" "changed since make tree" \
	series export
undo >/dev/null 2>&1
equals "tree: what a commit no longer adds is gone again" \
	"$(lgit rev-parse 'HEAD^{tree}')" "$clean"

# Mistakes are named.
first=$(basename "$(find "$repo"/series -name '0001-*.patch')")
sed -i '0,/^-\([^-]\)/s//-X\1/' "$repo/series/$first"
refuses "tree: a patch that does not apply names itself, the file and the hunk" \
	"$first.*hunk [0-9]+ of [0-9]+: @@" series tree
undo >/dev/null 2>&1
mkdir -p "$repo/mm"
echo >"$repo/mm/hmm_orphan.c"
refuses "tree: a file that no patch adds" "mm/hmm_orphan.c is added by no entry" series tree
for n in 1 2; do
	sed -i '0,/^---$/s//---\nnew file: mm\/hmm_orphan.c/' "$repo"/series/000$n-*.patch
done
refuses "tree: a file that two patches add" \
	"mm/hmm_orphan.c is added by series/0001-.* and by series/0002-" series tree
undo >/dev/null 2>&1
sed -i '0,/^---$/s//---\nnew file: mm\/hmm_missing.c/' "$repo/series/$first"
refuses "tree: an added file that is not there" \
	"adds mm/hmm_missing.c, and there is no such file" series tree
undo >/dev/null 2>&1
mkdir -p "$repo/mm"
cp "$mini/mm/hmm.c" "$repo/mm/hmm.c"
sed -i '0,/^---$/s//---\nnew file: mm\/hmm.c/' "$repo/series/$first"
refuses "tree: an added file that the base has" "the base already has" series tree
undo >/dev/null 2>&1
mv "$repo/series/$first" "$repo/series/0009-x.patch"
refuses "tree: a gap in the numbers" "numbered without gaps" series tree
undo >/dev/null 2>&1
echo >"$linux/notes.txt"
lgit add -A
lgit commit -qm "a file outside"
refuses "export: an added file outside the kernel's folders" "no kernel folder" series export
lgit reset -q --hard HEAD~1
mkdir -p "$linux/mm"
printf 'a\0b' >"$linux/mm/blob"
lgit add -A && lgit commit -qm "a blob"
printf 'a\0c' >"$linux/mm/blob"
lgit commit -qam "a changed blob"
refuses "export: a binary change" "changes a binary file" series export
lgit reset -q --hard HEAD~2

# What a mail cannot carry, and work that is easy to lose.
echo 1 >>"$linux/README"
lgit commit -qam "mm: subject" -m "From: someone else <x@localhost>

Body."
refuses "export: a message that a mail would change" "would not come back" series export
lgit reset -q --hard HEAD~1
printf 'a\r\nb\r\n' >"$linux/mm/hmm crlf.c"
seq 40 | sed 's/.*/same/' >"$linux/mm/hmm_same.c"
lgit add -A
lgit commit -qm "[RFC] mm: odd files"
printf 'c\r\n' >>"$linux/mm/hmm crlf.c"
sed -i '5s/same/five/' "$linux/mm/hmm_same.c"
lgit commit -qam "mm: change the odd files"
t "export: CR LF, a space in a path, a subject with a tag" series export
sed -i '5s/five/same/; 25s/same/five/' "$linux/mm/hmm_same.c"
lgit commit -qa --amend --no-edit
before=$(lgit rev-parse 'HEAD^{tree}')
t "export: a change moved to an equal place" series export
rm -rf "$linux"
series tree 2>/dev/null
equals "comes back there" "$(lgit rev-parse 'HEAD^{tree}')" "$before"
lgit checkout -q HEAD~1
refuses "export: not on the branch" "not on its branch" series export
lgit checkout -q hmm-dax
undo >/dev/null 2>&1
echo >"$linux/mm/hmm_precious.c"
refuses "work in build/linux is seen" "uncommitted edits or files" series idle
t "make clean refuses" bash -c "! make -s -C '$repo' clean"
t "and removes nothing" test -f "$linux/mm/hmm_precious.c"
rm -rf "$tmp/mini2"
cp -a "$mini" "$tmp/mini2"
sed -i 's/99/98/' "$tmp/mini2/Makefile"
LINUX=$tmp/mini2 base 2>/dev/null
LINUX=$tmp/mini2 t "tree: another base" series tree
t "keeps the old build/linux where it had work" test -f "$linux.old1/mm/hmm_precious.c"

# The series for another base: of the files that it adds, those that are the same in
# series/ stand in the repository, and others in its diffs.
undo >/dev/null 2>&1
export BASE=6.12 BUILD=$repo/build/6.12 LINUX=$tmp/mini612
linux=$BUILD/linux
mkdir -p "$LINUX"
printf 'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 99\nEXTRAVERSION =\n' >"$LINUX/Makefile"
echo hello >"$LINUX/README"
rm -f "$repo"/series-6.12/*.patch
shared=$(cd "$repo" && git ls-files lib | head -n 1)
base 2>/dev/null
t "BASE=6.12 tree" series tree
mkdir -p "$linux/mm" "$linux/${shared%/*}"
cp -p "$repo/$shared" "$linux/$shared"
echo 1 >"$linux/mm/hmm_612.c"
echo world >>"$linux/README"
lgit add -A
lgit commit -qm "mm: add two files"
before=$(lgit rev-parse 'HEAD^{tree}')
t "BASE=6.12 export" series export
equals "BASE=6.12 export: what is the same, and what is not" \
	"$(grep -hE '^(new file|\+1$)' "$repo"/series-6.12/0001-*)" \
	"$(printf '%s\n' "new file: $shared" "new file mode 100644" +1)"
equals "BASE=6.12 export: nothing else changes" \
	"$(git -C "$repo" status --porcelain -- . ':!series-6.12')" ""
rm -rf "$linux"
series tree 2>/dev/null
equals "BASE=6.12 tree: the same comes back" "$(lgit rev-parse 'HEAD^{tree}')" "$before"
finish
