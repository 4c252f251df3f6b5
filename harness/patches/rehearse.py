#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What each patch of the series would meet on another kernel: LINUX=tree, of any version.

LINUX=tree   a git tree (its HEAD), or an unpacked one; it is only read
SET=name...  only these sets of series/sets, with the sets that they are after

A line for each patch: applies; offset (so many lines away); merges (as git merges, with
the base); fuzz (with one line of context); already there; conflicts. Below that,
each file and hunk that does not just apply. Where a patch conflicts, its own lines are
taken, so that the patches behind it meet what they expect. build/linux is only read:
all is done in a temporary git repository. Status 1 when something conflicts.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import sets         # beside this file

series = sets.series
Error, git, out = series.Error, series.git, series.out

VERDICTS = ("applies", "offset", "merges", "fuzz", "already there", "conflicts")


class Kernel:
    """The files of a tree that the series changes, in an index of a repository of its own."""

    def __init__(self, source, paths, tmp):
        self.repo, self.tmp = os.path.join(tmp, "git"), tmp
        self.env = {"GIT_INDEX_FILE": os.path.join(tmp, "index")}
        series.borrowing(self.repo)
        top = git("rev-parse", "--show-toplevel", repo=source, check=False).stdout.decode().strip()
        is_git = top and os.path.realpath(top) == os.path.realpath(source)
        makefile = b""
        for path in ["Makefile"] + paths:
            data = self.from_git(source, path) if is_git else self.from_folder(source, path)
            if path == "Makefile":
                makefile = data or b""
            if data is not None and path in paths:
                self.put(path, data)
        found = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)$",
                                makefile.decode("utf-8", "replace"), re.M))
        if "VERSION" not in found:
            raise Error("LINUX=%s is not a kernel tree: no Makefile with a version" % source)
        self.version = "%(VERSION)s.%(PATCHLEVEL)s.%(SUBLEVEL)s%(EXTRAVERSION)s" % found

    @staticmethod
    def from_git(source, path, rev="HEAD"):
        run = git("cat-file", "blob", rev + ":" + path, repo=source, check=False)
        return None if run.returncode else run.stdout

    @staticmethod
    def from_folder(source, path):
        try:
            with open(os.path.join(source, path), "rb") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def git(self, *args, **kwargs):
        return git(*args, repo=self.repo, env=self.env, **kwargs)

    def put(self, path, data):
        blob = self.git("hash-object", "-w", "--stdin", stdin=data).stdout.decode().strip()
        self.git("update-index", "--add", "--cacheinfo", "100644,%s,%s" % (blob, path))

    def get(self, path):
        run = self.git("cat-file", "blob", ":" + path, check=False)
        return None if run.returncode else run.stdout

    def apply(self, diff, *options):
        """None, or how far away the diff applies."""
        run = self.git("apply", "--cached", "-v", "--whitespace=nowarn", *options, "-",
                       stdin=series.raw(diff), check=False)
        if run.returncode:
            return None
        return max([0] + [abs(int(n)) for n in
                          re.findall(r"\(offset (-?\d+) line", run.stderr.decode())])

    def merge(self, path, before, after, *options):
        """(conflicts, text) of git's merge of what a commit does to a file."""
        names = [os.path.join(self.tmp, name) for name in ("ours", "base", "theirs")]
        for name, data in zip(names, (self.get(path), before, after)):
            with open(name, "wb") as f:
                f.write(data or b"")
        run = subprocess.run(["git", "merge-file", "-p", *options, *names],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if run.returncode > 127:
            raise Error("git merge-file: " + run.stderr.decode().strip())
        return run.returncode, run.stdout

    def hunks(self, part):
        """The hunks of a file's diff that do not apply alone."""
        head, *rest = re.split(r"(?m)^(?=@@ )", part)
        return ["hunk %d of %d: %s" % (i, len(rest), hunk.split("\n")[0])
                for i, hunk in enumerate(rest, 1) if self.apply(head + hunk, "--check") is None]

    def take(self, rev, part):
        """Apply the part of a commit that is for one file: (verdict, what there is to say)."""
        path = series.diff_paths(part)[0]
        have, new = self.get(path), bool(re.search(r"^new file mode", part, re.M))
        if new and have is not None:
            after = self.from_git(series.LINUX, path, rev)
            self.put(path, after)
            if have == after:
                return "already there", [path]
            return "conflicts", ["%s is there, and another one" % path]
        if not new and have is None:
            return "conflicts", ["%s is not there" % path]
        shutil.copyfile(self.env["GIT_INDEX_FILE"], os.path.join(self.tmp, "before"))
        away = self.apply(part)
        if away == 0:
            return "applies", []
        # When it is there, an equal place elsewhere may take it all the same.
        os.replace(os.path.join(self.tmp, "before"), self.env["GIT_INDEX_FILE"])
        back = self.apply(part, "-R", "--check")
        if back is not None and (away is None or back < away):
            return "already there", [path]
        if away is not None:
            self.apply(part)
            return "offset", ["%s, %d lines away" % (path, away)]
        notes = ["%s, %s" % (path, hunk) for hunk in self.hunks(part)] or [path]
        before, after = (self.from_git(series.LINUX, path, at) for at in (rev + "^", rev))
        conflicts, merged = self.merge(path, before, after)
        if not conflicts:
            self.put(path, merged)
            return "merges", notes
        if self.apply(part, "-C1") is not None:
            return "fuzz", notes
        self.put(path, self.merge(path, before, after, "--theirs")[1])
        return "conflicts", notes


def parts(rev):
    return [part for part in re.split(r"(?m)^(?=diff --git )", sets.diff_of(rev)) if part]


def rehearse(source, names):
    revs = sets.commits()
    chosen = list(revs)
    if names:
        found = sets.of_series(revs)
        wanted = set(found.names(names))
        for name in list(wanted):
            wanted.update(found.below(name))
        chosen = [rev for name in found.after if name in wanted for rev in found.revs[name]]
    number = {rev: i for i, rev in enumerate(revs, 1)}
    paths = sorted({path for rev in chosen for path in series.diff_paths(sets.diff_of(rev))})
    counts = dict.fromkeys(VERDICTS, 0)
    with tempfile.TemporaryDirectory() as tmp:
        kernel = Kernel(source, paths, tmp)
        for rev in chosen:
            verdict, notes = "applies", []
            taken = [kernel.take(rev, part) for part in parts(rev)]
            for one, said in taken:
                if one == "already there" and {v for v, _ in taken} != {one}:
                    one, said = "merges", ["%s is there already" % path for path in said]
                verdict = max(verdict, one, key=VERDICTS.index)
                notes += said
            counts[verdict] += 1
            print("%4d %-13s %s" % (number[rev], verdict, sets.subject(rev)))
            for note in [] if verdict == "already there" else notes:
                print("     " + note)
            sys.stdout.flush()
    print("%d patches on Linux %s: %s" % (len(chosen), kernel.version, ", ".join(
        "%d %s" % (n, verdict) for verdict, n in counts.items() if n)))
    return counts["conflicts"] == 0


def main():
    source = os.environ.get("LINUX", "")
    if not os.path.isfile(os.path.join(source, "Makefile")):
        raise Error("LINUX=%s is not a kernel tree: no Makefile there" % source)
    sys.exit(0 if rehearse(source, os.environ.get("SET", "").split()) else 1)


if __name__ == "__main__":
    series.run(main)
