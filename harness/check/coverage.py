#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""coverage.py LINUX MISSED ARCHIVE...: a table of what gcov counted.

LINUX is build/linux with the branch of the series. Each ARCHIVE has the .gcda files of
one guest, named by the path of the object. The lines that no guest ran go to MISSED.
"""
import collections
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile


def added_lines(linux):
    """The lines of each C file that the series adds or changes."""
    diff = subprocess.run(
        ["git", "-C", linux, "diff", "-U0", "--diff-filter=AM", "hmm-dax-base", "hmm-dax",
         "--", "*.c", "*.h", ":!tools"], capture_output=True, text=True, check=True).stdout
    lines, name = collections.defaultdict(set), None
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            name = line[6:]
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            lines[name].update(range(first, first + count))
    return lines


def reports(archive):
    """What gcov says of each object in an archive: its path, and gcov's JSON."""
    with tempfile.TemporaryDirectory() as tmp, tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile() or not member.size:
                continue
            path = "/" + os.path.normpath(member.name)
            notes = path[:-len(".gcda")] + ".gcno"
            if not os.path.exists(notes):
                continue
            data = os.path.join(tmp, "object.gcda")
            with open(data, "wb") as out:
                out.write(tar.extractfile(member).read())
            link = os.path.join(tmp, "object.gcno")
            if os.path.lexists(link):
                os.remove(link)
            os.symlink(notes, link)
            said = subprocess.run(["gcov", "-b", "-j", "-t", "object.gcda"], cwd=tmp,
                                  capture_output=True, text=True, check=False)
            if said.returncode or not said.stdout.strip():
                sys.exit(f"coverage: gcov fails for {path} of {archive}: {said.stderr.strip()}")
            yield path, json.loads(said.stdout)


def source_of(name, folder, linux):
    """The path of a source in the kernel tree, or None for one of another place."""
    path = os.path.realpath(os.path.join(folder, name))
    return os.path.relpath(path, linux) if path.startswith(linux + os.sep) else None


def percent(part, whole):
    """A cell of the table."""
    return f"{part}/{whole} {100 * part / whole:5.1f} %" if whole else "-"


def main(linux, missed, archives):
    """Read the archives, print the table, write what was missed."""
    linux = os.path.realpath(linux)
    added = added_lines(linux)
    counts = collections.defaultdict(collections.Counter)       # file -> line -> runs
    functions = collections.defaultdict(dict)                   # file -> (first, last) -> name
    # Two objects can have one source (a driver and its mocks), with branches of their own.
    branches = collections.defaultdict(lambda: collections.defaultdict(collections.Counter))
    for archive in archives:
        for path, report in reports(archive):
            for source in report["files"]:
                name = source_of(source["file"], report["current_working_directory"], linux)
                if name not in added:
                    continue
                for f in source["functions"]:
                    functions[name][f["start_line"], f["end_line"]] = f["name"]
                for line in source["lines"]:
                    number = line["line_number"]
                    counts[name][number] += line["count"]
                    for n, branch in enumerate(line["branches"]):
                        branches[name, number][path][n] += branch["count"]

    print(f"{'functions that the series adds or changes, of':52} {'lines run':>16} "
          f"{'added lines run':>17} {'branches taken':>17}")
    total = [0] * 6
    with open(missed, "w", encoding="utf-8") as out:
        for name in sorted(counts):
            wanted = set()
            for first, last in functions[name]:
                body = range(first, last + 1)
                if not added[name].isdisjoint(body):
                    wanted.update(body)
            lines = sorted(wanted & counts[name].keys())
            if not lines:
                continue
            new = [n for n in lines if n in added[name]]
            taken = whole = 0
            for n in lines:
                if (name, n) in branches:
                    best = max(branches[name, n].values(),
                               key=lambda c: sum(map(bool, c.values())) / len(c))
                    taken += sum(map(bool, best.values()))
                    whole += len(best)
            row = [sum(counts[name][n] > 0 for n in lines), len(lines),
                   sum(counts[name][n] > 0 for n in new), len(new), taken, whole]
            total = [a + b for a, b in zip(total, row)]
            print(f"{name:52} {percent(*row[:2]):>16} {percent(*row[2:4]):>17} "
                  f"{percent(*row[4:]):>17}")
            with open(os.path.join(linux, name), encoding="utf-8") as text:
                source = text.read().splitlines()
            for n in lines:
                if not counts[name][n]:
                    mark = "+" if n in added[name] else " "
                    print(f"{name}:{n}:{mark}{source[n - 1]}", file=out)
        for name in sorted(n for n in added if n.endswith(".c") and n not in counts):
            print(f"{name:52} {'not run':>16}")
    print(f"{'all':52} {percent(*total[:2]):>16} {percent(*total[2:4]):>17} "
          f"{percent(*total[4:]):>17}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("coverage: no counts; see harness/check/coverage")
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
