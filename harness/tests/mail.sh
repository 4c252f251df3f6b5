#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make series: what would be sent, up to the tree that a receiver gets from it.
# The mails are made from this build/linux by a copy of this repository, with a
# sender of its own, and go to a sendmail that only collects them.
. "$(dirname "$0")/lib.sh"

linux=$BUILD/linux
repo=$tmp/repo
export BUILD=$tmp/build HOME=$tmp/home GIT_CONFIG_NOSYSTEM=1
unset FORCE LINUX V SET GET_MAINTAINER EMAIL XDG_CONFIG_HOME
unset "${!GIT_AUTHOR_@}" "${!GIT_COMMITTER_@}"
mkdir -p "$repo" "$BUILD/base" "$HOME"
ln -s "$linux" "$BUILD/linux"
cp "${linux%/*}/base/id" "$BUILD/base"
copy_clone "$repo"
rgit() { git -C "$repo" "$@"; }
as_test() { rgit -c user.name=test -c user.email=test@localhost "$@"; }
rgit init -q
rgit add -A
as_test commit -qm copy

mails=$BUILD/series
mail() { "$repo/harness/patches/mail.py"; }
patches() { find "$mails" -name '*.patch' ! -name '*0000-cover-letter*' | sort; }
cover() { cat "$mails"/*0000-cover-letter.patch; }
names() { git -C "$linux" log --format=%s "$@"; }
n=$(git -C "$linux" rev-list --count hmm-dax-base..HEAD)
refs() { git -C "$linux" for-each-ref; git -C "$linux" status --porcelain; }
before=$(refs)

refuses "without an identity nothing is made up" "git config user.name .*user.email" mail
me='Zoë Q. Sender <zoe@sender.example.org>'
git config --global user.name "${me% <*}"
git config --global user.email zoe@sender.example.org

t "mails of the series" mail
equals "one for each commit, and a cover letter" "$(find "$mails" -name '*.patch' | wc -l)" \
	$((n + 1))
equals "each From is the sender" \
	"$(for p in "$mails"/*; do
		git mailinfo /dev/null /dev/null <"$p" | sed -n 's/^Author: //p; s/^Email: //p' |
			paste -sd' '
	done | sort -u)" \
	"${me//[<>]/}"
equals "Signed-off-by is the sender's, once in each patch" \
	"$(grep -hi '^signed-off-by:' "$mails"/* | uniq -c | xargs)" "$n Signed-off-by: $me"
sed -n 's/.*<\(.*@.*\)>$/\1/p;/^Date:/q' "$repo"/series/*.patch | sort -u >"$tmp/authors"
t "there are authors who could have been in it" grep -q @ "$tmp/authors"
t "no author of the repository's commits is in it" bash -c "! grep -Fhf '$tmp/authors' '$mails'/*"
zero=$(printf "%0${#n}d" 0)	# as git counts: 00/99, 000/100
equals "the cover letter's subject" "$(cover | sed -n 's/^Subject: //p')" \
	"[PATCH $zero/$n] $(sed -n 's/^Subject: //p;q' "$repo/series/cover-letter.txt")"
t "its text is series/cover-letter.txt" bash -c \
	"grep -qxF \"\$(sed -n 3p '$repo/series/cover-letter.txt')\" '$mails'/0000-*"
equals "nothing is left to be filled in" "$(grep -l '\*\*\* ' "$mails"/*)" ""
equals "the base in words, and no commit that nobody else has" \
	"$(cover | grep -c '^base: Linux 7\.3\.'; cat "$mails"/* | grep -c '^base-commit')" \
	$'1\n0'
equals "each mail has somebody it is to, and lkml" \
	"$(grep -LE '^To: .*@' "$mails"/*; grep -LE '^(Cc:|   ) .*linux-kernel@vger' "$mails"/*)" \
	""
t "the cover letter goes to linux-mm" bash -c \
	"sed '/^\$/q' '$mails'/0000-* | grep -q linux-mm@kvack.org"

# As a receiver: collect what git send-email hands to sendmail.
cat >"$tmp/sendmail" <<END
#!/bin/sh
{ echo 'From mail Thu Jan  1 00:00:00 1970'; sed 's/^From />From /'; echo; } >>'$tmp/mbox'
END
chmod +x "$tmp/sendmail"
# His tree has nothing but the files that the series touches: git am is quicker.
git init -q "$tmp/received"
echo "$(realpath "$linux")/.git/objects" >"$tmp/received/.git/objects/info/alternates"
cd "$tmp/received" || exit
mapfile -t touched < <(git -C "$linux" diff --name-only hmm-dax-base HEAD)
tree_of() { # REV: those files, as a tree
	git read-tree --empty
	git -C "$linux" ls-tree -r "$1" -- "${touched[@]}" | git update-index --index-info
	git write-tree
}
base=$(git commit-tree -m base "$(tree_of hmm-dax-base)")
tree=$(tree_of HEAD)
received() { # MBOX...: prints the tree
	git checkout -qf "$base" && git am -q "$@" && git rev-parse 'HEAD^{tree}'
}
t "git send-email takes them" git send-email --confirm=never --quiet \
	--sendmail-cmd="$tmp/sendmail" "$mails"/*.patch
mkdir "$tmp/b4"
t "b4 am takes what was sent" b4 --offline-mode am -m "$tmp/mbox" -o "$tmp/b4"
equals "as so many patches" "$(sed -n 's/^Total patches: //p' "$tmp/out")" "$n"
equals "git am of that gives the tree of build/linux" "$(received "$tmp"/b4/*.mbx 2>&1)" "$tree"
shazam() {
	git checkout -qf "$base" && b4 --offline-mode shazam -m "$1" >&2 &&
		git rev-parse 'HEAD^{tree}'
}
equals "b4 shazam of the mbox as well" "$(shazam "$tmp/mbox" 2>"$tmp/out")" "$tree"
equals "git am of the files, as README.md says" "$(received --empty=drop "$mails"/*.patch 2>&1)" \
	"$tree"

# Who gets them was seen above, and takes half a second for each patch.
echo '#!/bin/sh
echo "Jane Doe <jane@maintainer.example.org> (maintainer:ALL OF IT)"' >"$tmp/get_maintainer"
chmod +x "$tmp/get_maintainer"
export GET_MAINTAINER=$tmp/get_maintainer

# A second version. The first said something else in its first patch.
V=2 refuses "V=2: what changed has to be said" "series/changelog has no section 'v2:'" mail
printf 'v2:\n - other words in the first patch\n' >"$repo/series/changelog"
V=2 refuses "V=2: the first version has to be there" "git tag series-v1" mail
sed -i '0,/^---$/s//Old words.\n---/' "$repo"/series/0001-*.patch
as_test commit -qam v1
rgit tag series-v1
V=2 t "V=2" mail
t "its subjects" grep -q "^Subject: \[PATCH v2 $zero/$n\]" "$mails/v2-0000-cover-letter.patch"
equals "the changes are in the cover letter" "$(cover | grep -A1 '^Changes since v1:')" \
	$'Changes since v1:\n - other words in the first patch'
equals "and so is the range-diff, of that and nothing else" \
	"$(cover | sed -n '/^Range-diff against v1:/,$p' | grep -E '^ +[-+] |^ +-: | -: ' |
		tr -s ' ' | sed 's/^ //')" \
	"- Old words."
sed -i '0,/^Old words.$/s//Signed-off-by: Somebody Else <else@localhost>/' \
	"$repo"/series/0001-*.patch
as_test commit -qam v1
rgit tag -f series-v1 >/dev/null
V=2 refuses "nobody else's Signed-off-by is sent" "only the sender signs" mail
V=x refuses "V=x" "give a version" mail

# The sets, each a thread of its own. That each applies where it says is for sets.sh.
mapfile -t sets < <("$repo/harness/patches/sets.py" list | sed 's/:.*//')
of_sets() {
	local s
	for s in "$@"; do find "$mails/$s" -name '*.patch' ! -name '*0000-cover*' | sort; done
}
SET='*' t "SET='*': all sets" mail
equals "as so many" "$(find "$mails" -mindepth 1 -type d | wc -l)" "${#sets[@]}"
equals "as many patches as there are" "$(of_sets "${sets[@]}" | wc -l)" "$n"
of_sets "${sets[@]}" | xargs cat >"$tmp/files"
equals "git am of one after the other gives the tree of build/linux" \
	"$(received "$tmp/files" 2>&1)" "$tree"
ids() { grep -rh '^Message-ID: ' "$mails" | sed 's/.*<\(.*\)>$/\1/' | sort "$@"; }
equals "each set has one Message-ID" "$(ids -u | wc -l; ids | uniq -d)" "${#sets[@]}"
grep -rhoP '^  https://lore.kernel.org/r/\K.*' "$mails" | sort -u >"$tmp/links"
t "there are links" test -s "$tmp/links"
equals "and each is to a mail of another set" "$(ids | comm -13 - "$tmp/links")" ""
equals "hmm-list says what it is on top of, and what is on top of it" \
	"$(sed -n '/^This set applies/,/^base/s/^  "\(.*\)"$/\1/p' "$mails/hmm-list"/0000-*)" \
	"$(sed -n 's/^Subject: //p' \
			"$repo"/series/cover-letter-{mm,migrate,test-hmm,pud,dax}-fixes.txt
		names --grep='^mm/hmm: tell drivers' hmm-dax-base..
		names --grep='^accel/amdxdna: do not share' hmm-dax-base..
		sed -n 's/^Subject: //p' \
			"$repo"/series/cover-letter-{hmm-fault,hmm-window,gpusvm-list}.txt)"
rm "$tmp/mbox"
t "git send-email takes a set" git send-email --confirm=never --quiet \
	--sendmail-cmd="$tmp/sendmail" "$mails"/hmm-list/*.patch
equals "as a thread" "$(grep -c '^From mail' "$tmp/mbox"
	grep -h '^In-Reply-To: ' "$tmp/mbox" | sort | uniq -c | xargs)" \
	"5"$'\n'"4 In-Reply-To: <hmm-dax-hmm-list-v1.zoe@sender.example.org>"
SET=nfs refuses "SET=nfs" "there are all, rdma-fixes, " mail
V=2 SET=hmm-memory refuses "SET= V=2: what changed has to be said" \
	"series/changelog-hmm-memory has no section 'v2:'" mail
printf 'v2:\n - nothing\n' >"$repo/series/changelog-hmm-memory"
sed -i '0,/^Signed-off-by: Somebody Else.*/s///' "$repo"/series/0001-*.patch
as_test commit -qam v1
rgit tag series-hmm-memory-v1
V=2 SET=hmm-memory t "SET= V=2" mail
kind=$(names --grep='^mm/hmm: tell drivers' hmm-dax-base..)
equals "says so, with a range-diff" \
	"$(patches | xargs grep -hE '^(Subject|Changes|Range-diff)|^1: ')" \
	"Subject: [PATCH v2] $kind
Changes since v1:
Range-diff against v1:
$(patches | xargs grep -hE '^1: .* = ')"

printf '%s\n' 'git /some/where 0123456789abcdef0123456789abcdef01234567' 7.3.9 /some/where \
	>"$BUILD/base/id"
SET=amdkfd-fixes t "a base that is a commit of somebody's git" mail
equals "is named, without the place where it lies" \
	"$(grep -rhE '^base|/some/where' "$mails")" \
	$'base: Linux 7.3.9\nbase-commit: 0123456789abcdef0123456789abcdef01234567'
equals "with the patch that the set needs, as git knows it" \
	"$(grep -rhoP '^prerequisite-patch-id: \K.*' "$mails")" \
	"$(git -C "$linux" log -p --format=%H --grep='^mm/hmm: tell drivers' hmm-dax-base.. |
		git patch-id --stable | cut -d' ' -f1)"
equals "build/linux is as it was" "$(refs)" "$before"
finish
