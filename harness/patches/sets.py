#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The sets that the series is mailed in, as series/sets has them.

sets.py list          the sets: name, number of patches, the sets that each is after
sets.py check         prints TAP: each patch is in one set, each set applies to the base
                      after the sets that it is after, uses nothing of others, and all of
                      them together are the series
sets.py commit NAME   prints a commit of build/linux's git with the set, on one with what
                      it is after, on the base

Patches are the commits of build/linux, which stays as it is: all is done in a git
index. What git cannot see, harness/lint/each-set does: that each set compiles.
"""
import fnmatch
import importlib.machinery
import importlib.util
import os
import re
import sys

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader(
    "series", os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "series"))
series = importlib.util.module_from_spec(importlib.util.spec_from_loader("series", loader))
loader.exec_module(series)
Error, git, out = series.Error, series.git, series.out

FILE = "series/sets"
MOST = 15               # patches in a set: what is longer is not read
SUBJECTS, DIFFS = {}, {}        # of commits


def diff_of(rev):
    if rev not in DIFFS:        # and all others that are known, by one call of git
        wanted = [rev] + [r for r in SUBJECTS if r != rev and r not in DIFFS]
        text = git("diff-tree", "--stdin", "-p", "--no-renames", "--no-ext-diff", "--no-color",
                   "--src-prefix=a/", "--dst-prefix=b/", "--full-index",
                   stdin="".join(r + "\n" for r in wanted).encode()
                   ).stdout.decode("utf-8", "surrogateescape")
        found = re.split(r"(?m)^([0-9a-f]{40})\n", text)
        DIFFS.update(zip(found[1::2], found[2::2]))
    return DIFFS[rev]


def subject(rev):
    if rev not in SUBJECTS:
        SUBJECTS[rev] = out("show", "-s", "--format=%s", rev)
    return SUBJECTS[rev]


class Sets:
    """The sets of a text like series/sets, and which of these commits is in which."""

    def __init__(self, text, revs):
        self.after, self.revs, self.subjects = {}, {}, {}
        name = None
        for line in text.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            key, _, value = line.partition(":")
            if key == "set":
                name = value.strip()
                if not re.match(r"[a-z0-9-]+$", name) or name == "all" or name in self.after:
                    raise Error("%s: '%s': a set has a name of its own, of small letters, "
                                "digits and '-', not 'all'" % (FILE, line))
                self.after[name], self.revs[name] = [], []
            elif name and key == "after":
                self.after[name] += value.split()
            elif name and line.startswith("  "):
                self.put(line.strip(), name)
            else:
                raise Error("%s: '%s' is no line 'set: NAME' or 'after: NAME...', nor a subject "
                            "behind two spaces" % (FILE, line))
        names = list(self.after)
        for i, name in enumerate(names):
            for other in self.after[name]:
                if other not in names[:i]:
                    raise Error("%s: %s is after %s, which is not above it" % (FILE, name, other))
        self.place(revs)

    def put(self, words, name):
        if words in self.subjects:
            raise Error("%s: '%s' is in %s and in %s: exactly one set has a patch"
                        % (FILE, words, self.subjects[words], name))
        self.subjects[words] = name

    def place(self, revs):
        """Give each set its commits, in the order of the series."""
        left = dict(self.subjects)
        for rev in revs:
            name = left.pop(subject(rev), None)
            if not name:
                raise Error("%s: no set has '%s'%s" % (FILE, subject(rev), ", which two patches "
                            "are called" if subject(rev) in self.subjects else ""))
            self.revs[name].append(rev)
        for words, name in left.items():
            raise Error("%s: %s has '%s', and there is no such patch" % (FILE, name, words))
        for name, found in self.revs.items():
            if not 0 < len(found) <= MOST:
                raise Error("%s: %s has %d patches, and a set has 1 to %d"
                            % (FILE, name, len(found), MOST))

    def names(self, words):
        """The sets that shell patterns mean, in order."""
        found = set()
        for word in words:
            some = fnmatch.filter(self.after, word)
            if not some:
                raise Error("SET=%s: there are all, %s" % (word, ", ".join(self.after)))
            found.update(some)
        return [name for name in self.after if name in found]

    def below(self, name):
        """The sets that have to be applied before this one, in order."""
        found = set(self.after[name])
        for other in reversed(list(self.after)):
            if other in found:
                found.update(self.after[other])
        return [other for other in self.after if other in found]

    def on_top(self, name):
        """The sets that say that they are after this one."""
        return [other for other in self.after if name in self.after[other]]


def of_series(revs=None):
    path = os.path.join(series.SERIES, "sets")
    if not os.path.exists(path):
        raise Error("there is no %s, which says what SET= is" % FILE)
    return Sets(series.read(path), revs or commits())


def commits():
    found = [line.split(" ", 1) for line in out("log", "--reverse", "--format=%H %s",
                                               series.BASE_REF + "..HEAD").splitlines()]
    SUBJECTS.update(found)
    return [rev for rev, _ in found]


# --- on the base ---------------------------------------------------------------

def touched(revs):
    """The base, as a tree of only the files that these commits change: everything
    is a hundred times as quick with it."""
    paths = sorted({path for rev in revs for path in series.diff_paths(diff_of(rev))})
    with series.Index() as index:
        for line in out("ls-tree", "-r", series.BASE_REF, "--", *paths).splitlines():
            info, path = line.split("\t")
            index.add(info.split()[0], info.split()[2], path)
        return index.tree()


def put_on(index, revs, name, what):
    """Apply commits of a set to an index; the trees."""
    made = []
    for rev in revs:
        diff = diff_of(rev)
        run = index.apply(diff)
        if run.returncode:
            raise Error("%s: '%s' of %s does not apply %s: %s" % (
                FILE, subject(rev), name, what, series.why_not(diff, run.stderr.decode())))
        made.append((rev, index.tree()))
    return made


def words_of(names):
    return "to the base after " + ", ".join(names) if names else "to the base"


def ground(index, sets, name):
    """Bring an index from the base to where a set is applied; the tree."""
    below = sets.below(name)
    together = "".join(diff_of(rev) for other in below for rev in sets.revs[other])
    if together and index.apply(together).returncode:
        for i, other in enumerate(below):       # again, to say which one it was
            put_on(index, sets.revs[other], other, words_of(below[:i]))
    return index.tree()


def on_base(sets, name, base):
    """(tree that a set is applied to, [(commit of the set, tree with it)]); base is a tree."""
    with series.Index(base) as index:
        return ground(index, sets, name), put_on(index, sets.revs[name], name,
                                                 words_of(sets.below(name)))


def added(diff, pattern=r".*"):
    """The words that a diff adds, by file."""
    found = {}
    for part in re.split(r"(?m)^diff --git ", diff)[1:]:
        path = re.match(r"a/(.+) b/\1$", part, re.M)[1]
        if re.match(pattern, path):
            lines = re.findall(r"(?m)^\+(?!\+\+ )(.*)", part)
            found[path] = set(re.findall(r"\w+", " ".join(lines)))
    return found


def uses(sets):
    """(set, subject, name, subject of another set) where the first adds lines with a name
    that the other one adds to a header or Kconfig file of the kernel, and does not come
    after it. A name that include/ or a file that is changed has on the base is nobody's."""
    first, found = {}, []
    for name, revs in sets.revs.items():
        for rev in revs:
            for words in added(diff_of(rev), r"(?!tools/)(.*\.h$|.*/Kconfig)").values():
                for word in words:
                    if "_" in word:
                        first.setdefault(word, (name, rev))
    for name, revs in sets.revs.items():
        own = set(sets.below(name)) | {name}
        for rev in revs:
            for word in set().union(*added(diff_of(rev), r"(?!tools/)(.*\.[ch]$|.*/Kconfig)")
                                    .values()):
                if word in first and first[word][0] not in own:
                    found.append((name, subject(rev), word, subject(first[word][1])))
    names = "\n".join({word for _, _, word, _ in found}).encode()
    changed = touched([rev for revs in sets.revs.values() for rev in revs])
    known = [git("grep", "-ohwF", "-f", "-", *where, stdin=names, check=False).stdout.decode()
             for where in ((changed,), (series.BASE_REF, "--", "include"))] if names else []
    return [use for use in found if use[2] not in set("".join(known).split())]


def check():
    """Prove what can be proved without a compiler. Prints TAP; true if all holds."""
    bad = []

    def say(good, text, why=""):
        print("%s %s%s" % ("ok" if good else "not ok", text, "\n# " + why if why else ""),
              flush=True)
        if not good:
            bad.append(text)

    revs = commits()
    sets = of_series(revs)
    say(True, "each of %d patches is in one of %d sets" % (len(revs), len(sets.after)))
    base = touched(revs)
    for name in sets.after:
        try:
            on_base(sets, name, base)
            say(True, "%s applies %s" % (name, words_of(sets.below(name))))
        except Error as e:
            say(False, "%s applies" % name, str(e))
    with series.Index(base) as index:
        try:
            for name in sets.after:
                last = put_on(index, sets.revs[name], name, "after the sets above it")
            paths = out("diff-tree", "-r", "--name-only", last[-1][1], revs[-1] + "^{tree}", "--",
                        *out("ls-tree", "-r", "--name-only", last[-1][1]).splitlines())
            say(not paths, "one after the other they are the series", paths.replace("\n", " "))
        except Error as e:
            say(False, "one after the other they are the series", str(e))
    foreign = ["%s: '%s' uses %s of '%s'" % found for found in uses(sets)]
    say(not foreign, "none uses a name of a set that it is not after", "\n# ".join(foreign))
    return not bad


def commit(name):
    """A commit of all of a set, on a commit of all that it is after, on the base."""
    found = of_series()
    if name not in found.after:
        raise Error("sets.py commit NAME: there are %s" % ", ".join(found.after))
    tree, made = on_base(found, name, series.BASE_REF)
    env = {"GIT_%s_%s" % (role, key): value for role in ("AUTHOR", "COMMITTER") for key, value in
           (("NAME", "hmm-dax"), ("EMAIL", "hmm-dax@localhost"), ("DATE", "@0 +0000"))}
    tip = out("rev-parse", series.BASE_REF)
    for tree, words in ((tree, "What %s is after" % name), (made[-1][1], "Set " + name)):
        tip = out("commit-tree", tree, "-p", tip, "-m", words, env=env)
    return tip


def main():
    match sys.argv[1:]:
        case ["list"]:
            sets = of_series()
            for name, after in sets.after.items():
                print("%s: %d%s" % (name, len(sets.revs[name]),
                                    " after " + ", ".join(after) if after else ""))
        case ["check"]:
            sys.exit(0 if check() else 1)
        case ["commit", name]:
            print(commit(name))
        case _:
            raise Error("usage: sets.py list|check|commit NAME")


if __name__ == "__main__":
    series.run(main)
