#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""kcsan.py LINUX LOG...: the data races in kernel logs, for functions of the series.

LINUX is build/linux with the branch of the series. Prints TAP: "not ok" for each pair of
functions of which the series adds or changes one, and last how many pairs are only
about others. These stand above, as comments.
"""
import re
import sys

from coverage import added_lines


def functions(text):
    """The functions of a C source: name, first and last line of each."""
    head, start = [], 0
    for number, line in enumerate(text.splitlines(), 1):
        if line == "{":
            # The name is what stands before the first parenthesis; a macro that makes
            # a function has no such line of its own.
            name = re.search(r"(\w+)\s*\(", " ".join(head))
            start = number - len(head)
        elif line == "}" and start:
            if name:
                yield name[1], start, number
            start, head = 0, []
        elif not line or line[0] in "#}/" or line.startswith(" *") or line.endswith(";"):
            head = []
        elif not start:
            head.append(line)


def ours(linux):
    """The functions that the series adds or changes."""
    found = set()
    for name, lines in added_lines(linux).items():
        with open(f"{linux}/{name}", encoding="utf-8") as text:
            found.update(f for f, first, last in functions(text.read())
                         if not lines.isdisjoint(range(first, last + 1)))
    return found


def reports(log):
    """KCSAN's reports in a log: for each, the functions at the top, and its lines."""
    lines = None
    for line in log.splitlines():
        line = re.sub(r"^\[[^]]*\]\s?", "", line.rstrip("\r"))
        if line.startswith("BUG: KCSAN: "):
            lines = [line]
        elif lines is not None and line.startswith("=" * 20):
            yield lines
            lines = None
        elif lines is not None:
            lines.append(line)


def tops(report):
    """The functions that access the memory: the first one of each stack."""
    found, top = [], False
    for line in report[1:]:
        if re.match(r"(race at unknown origin, with )?(read|write|assert)", line):
            top = True
        elif top and line.strip():
            # A clone that gcc has made of it is the function.
            found.append(re.sub(r"[+.].*", "", line.split()[0]))
            top = False
    return found


def main(linux, logs):
    """Print what the logs have."""
    mine, seen, bad, other = ours(linux), set(), 0, 0
    for log in logs:
        with open(log, encoding="utf-8", errors="replace") as text:
            for report in reports(text.read()):
                pair = tuple(sorted(tops(report)))
                if pair in seen:
                    continue
                seen.add(pair)
                if mine.isdisjoint(pair):
                    other += 1
                    print(f"# elsewhere: {' / '.join(pair)}")
                    continue
                bad += 1
                print(f"not ok {' / '.join(pair)}")
                print("\n".join("#   " + line for line in report))
    if not bad:
        print(f"ok no race in {len(mine)} functions of the series, {other} elsewhere")
    return bad > 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
