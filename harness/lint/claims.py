#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""claims.py: what the documents say is backed by what is there.

CLAIMS.md has a section for each document, and in it a row for each claim: words of the
document, and what backs them. Its head says how a row is written. This looks whether the
words still stand in the document, and whether the step, test, mutant, case or file that
is named exists. It runs none of them.

And each figure of the documents must be in the results that were committed last:
  harness/bench/results.json   what make bench wrote
  harness/bench/check-faults   how many faults make check expects
A figure is a number with a comma in it, or anything in a column of numbers. Those of
one line of a table must be of one case, and of the base or series as the column says. A
quotient has two digits behind the point, or from 10 on none, and from 10,000 on may be
rounded to two or three digits. A number that has nothing to do with these results
stands in the words of a claim.
What it does not see: figures of one memory that are exchanged, such as those of map and
unmap, a figure in a sentence that is one of another case, numbers below 1,000 in
sentences, and the picture. The table of machines in TESTED.md must be the one that
harness/check/matrix makes of its results.

Prints a line for each that is not so, and counts at the end."""
import datetime
import fnmatch
import glob
import json
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RST = "Documentation/mm/hmm-dax.rst"
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
problems = []


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        return f.read()


def files(*patterns):
    found = (glob.glob(os.path.join(TOP, p), recursive=True) for p in patterns)
    return sorted(os.path.relpath(f, TOP) for each in found for f in each if os.path.isfile(f))


def complain(where, text):
    problems.append("%s: %s" % (where, text))


def squeeze(text):
    return " ".join(text.split())


def document(name):
    """The text of a file; of a patch, what it adds to Documentation/."""
    found = files(name)
    if len(found) != 1:
        complain("CLAIMS.md", "%d files are %s" % (len(found), name))
        return ""
    text = read(found[0])
    if not found[0].endswith(".patch"):
        return text
    parts = re.split(r"^\+\+\+ b/(.*)\n", text, flags=re.M)
    return "\n".join("\n".join(re.findall(r"^\+(.*)", body, re.M))
                     for path, body in zip(parts[1::2], parts[2::2])
                     if path.startswith("Documentation/"))


# What can back a claim

class Sources:
    def __init__(self):
        check, guest_tests = read("harness/check/check"), read("harness/guest-tests.sh")
        self.suites = " ".join(re.findall(r'(?:kunit-results|run_mocks) "?([a-z0-9_ ]+)', guest_tests)).split()
        self.steps = set(re.findall(r'^step "([^"$]+)"', check, re.M))
        self.steps |= {"harness: " + os.path.basename(f)[:-3] for f in files("harness/tests/*.sh")}
        self.mutants = set(re.findall(r"^name: *(\S+)", read("harness/check/mutants.list"), re.M))
        self.targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))
        self.tests = {}     # program, or KUnit: full names
        added = "\n".join(re.findall(r"^\+(.*)", "\n".join(map(read, files("series/*.patch"))), re.M))
        for program in "hmm_dax", "hmm_leaves", "hmm_dma", "dax_mappings":
            self.selftest(program, read("tools/testing/selftests/mm/%s.c" % program))
        self.selftest("hmm-tests", "\n".join(re.findall(r"^TEST_F\w*\(hmm,.*", added, re.M)))
        for path in files("mm/**/*.c", "drivers/**/*.c", "harness/mocks/*.c"):
            text = read(path)
            for suite in re.findall(r'\.name = "(\w+)"', text):
                self.tests.setdefault("KUnit", set()).update(
                    "%s.%s" % (suite, case) for case in re.findall(r"KUNIT_CASE\w*\((\w+)", text))

    def selftest(self, program, text):
        names = self.tests.setdefault(program, set())
        names.update("global." + t for t in re.findall(r"^TEST\((\w+)", text, re.M))
        for fixture, test in re.findall(r"^TEST_F\w*\((\w+), *(\w+)", text, re.M):
            variants = re.findall(r"^FIXTURE_VARIANT_ADD\(%s, *(\w+)" % fixture, text, re.M)
            names.update("%s.%s.%s" % (fixture, v, test) for v in variants)
            if not variants:
                names.add("%s.%s" % (fixture, test))

    def has_test(self, what):
        """PROGRAM:TEST or KUnit:SUITE.TEST, as T= of make check has it."""
        program, _, test = what.partition(":")
        names = self.tests.get(program, ())
        if program == "KUnit":
            suite = test.partition(".")[0]
            return suite in self.suites and any(fnmatch.fnmatchcase(n, test) for n in names)
        return (any(s.startswith(program) for s in self.steps) and
                any(fnmatch.fnmatchcase(n, p) for n in names for p in (test, "*." + test)))

    def backs(self, kind, what, words, results):
        """None if that is there, or what is wrong."""
        if kind == "step":
            return None if what in self.steps else "make check has no step"
        if kind == "test":
            return None if self.has_test(what) else "there is no test, or no step of make check runs it"
        if kind == "mutant":
            return None if what in self.mutants else "harness/check/mutants.list has no"
        if kind == "command":
            return None if what in self.targets else "make has no"
        if kind == "matrix":
            return None if what in results.machines_run else "harness/check/matrix.results has no row"
        if kind == "says":
            path, _, text = what.partition(": ")
            return None if files(path) and squeeze(text) in squeeze(read(path)) else "the file has no such words"
        if kind == "bench":
            case, _, field = what.partition(".")
            values = results.cases.get(case, {})
            if not field:
                return None if values else "results.json has no case"
            if field not in values:
                return "results.json has no"
            return None if "{:,}".format(values[field]) in re.findall(NUMBER, words) else \
                "results.json has {:,} for".format(values[field])
        return "there is no such kind of thing"


# The results

class Results:
    def __init__(self):
        self.memories = {}  # (machine, memory): field: values
        self.machines = json.loads(read("harness/bench/results.json"))
        self.cases = self.machines["x86_64"]["cases"]
        for machine, section in self.machines.items():
            for case, values in section["cases"].items():
                memory = re.sub(r"^(fault_cold|walk_warm|dma_map|dma_unmap|gpusvm_get_pages|odp_fault|odp_entries)_"
                                r"|(_write|_list|_direct)+$", "", case)
                for field, value in values.items():
                    self.add(machine, memory, field, value)
        for line in re.findall(r"^\w+ \d+ \d+ \d+$", read("harness/bench/check-faults"), re.M):
            memory, pages, leaves, faults = line.split()
            for field, value in ("base", pages), ("series", faults), ("leaves", leaves):
                self.add("x86_64", memory, field, value)
        self.all = {v for fields in self.memories.values() for values in fields.values() for v in values}
        self.machines_run = set(re.findall(r"^(\S+)/", read("harness/check/matrix.results"), re.M))

    def add(self, machine, memory, field, value):
        self.memories.setdefault((machine, memory), {}).setdefault(field, set()).add("{:,}".format(int(value)))

    def of_one_case(self, row):
        """[(field or None, figure)...]"""
        return any(all(figure in fields.get(field, ()) if field else any(figure in v for v in fields.values())
                       for field, figure in row) for fields in self.memories.values())

    def of_field(self, field, figure):
        return any(figure in values for fields in self.memories.values()
                   for f, values in fields.items() if field in (None, f))


def field(head):
    """What the column of that name has in it."""
    for name, words in ("limit", "reference"), ("leaves", "leaves"), ("base", "base|before"), \
            ("series", "series|after|list|array"):
        if re.search(r"\b(%s)\b" % words, head):
            return name
    return None


def quotients(figures):
    """Of any two, as they may be written."""
    values = [float(f.replace(",", "")) for f in figures]
    for a in values:
        for b in values:
            q = a / b if b else 0
            yield "%.2f" % q if q < 10 else "{:,.0f}".format(q)
            if q >= 10000:
                yield from ("{:,.0f}".format(float("%.*g" % (digits, q))) for digits in (2, 3))


def check_row(where, row, results):
    unknown = [(f, n) for f, n in row if not results.of_field(f, n)]
    for f, n in unknown:
        complain(where, "%s is not in the results%s" % (n, " as a figure of: " + f if f else ""))
    if not unknown and not results.of_one_case(row):
        complain(where, "these figures are not of one case: " + " ".join(n for _, n in row))


def check_figures(path, text, claimed, results):
    """claimed: numbers in the words of claims that no bench backs. Counts figures."""
    head, before, count, third = None, "", 0, "series"
    for number, line in enumerate(text.splitlines(), 1):
        where = "%s:%d" % (path, number)
        cells = [c.strip() for c in line.split("|")[1:-1]] if line.startswith("|") else None
        row, quotient = [], []
        if cells:
            head = head or cells
            for name, cell in list(zip(head, cells))[1:]:
                if re.fullmatch(NUMBER, cell):
                    (quotient if " / " in name else row).append((field(name), cell))
        else:
            head = None
            columns = re.match(r" +\S.*?(?:  | (?=\d+,))(%s(?: +%s)*)$" % (NUMBER, NUMBER), line)
            third = {"links": "gpusvm", "list": "series"}.get(line.split(" ")[-1], third)
            if columns and path.startswith("series/"):
                row = list(zip(("base", "series", third), columns[1].split()))
        if row:
            check_row(where, row, results)
            for _, q in quotient:
                if q not in quotients([n for _, n in row]):
                    complain(where, "%s is no quotient of two figures of this line" % q)
            count += len(row) + len(quotient)
        else:
            for n in re.findall(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d|,\d)", line):
                count += 1
                if n not in results.all and n not in claimed:
                    complain(where, "%s is not in the results, nor in the words of a claim" % n)
        for day in re.findall(r"as of (\d+ [A-Z][a-z]+ \d{4})", squeeze(before + " " + line)):
            measured = datetime.date.fromisoformat(results.machines["x86_64"]["measured"])
            if day != measured.strftime("%-d %B %Y") and day not in before:
                complain(where, "the results are of %s" % measured.strftime("%-d %B %Y"))
        before = line
    return count


def check_matrix():
    """The table in TESTED.md is the one that make matrix makes of its results."""
    table = subprocess.run([os.path.join(TOP, "harness/check/matrix")], env=dict(os.environ, LIST="table"),
                           stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout
    if "<!-- make matrix -->\n%s<!-- end -->" % table not in read("TESTED.md"):
        complain("TESTED.md", "its table is not that of harness/check/matrix.results: "
                 "LIST=document harness/check/matrix makes it")


def stands_in(words, text):
    """Parts that " ... " divides stand there one after the other."""
    at = 0
    for part in words.split(" ... "):
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def main():
    results, sources = Results(), Sources()
    texts, claimed, count, unbacked, partly = {}, {}, 0, [], []
    section = None
    for number, line in enumerate(read("CLAIMS.md").splitlines(), 1):
        where = "CLAIMS.md:%d" % number
        if line.startswith("## "):
            section = line[3:].strip()
            texts[section], claimed[section] = document(section), set()
        row = re.fullmatch(r"\| (.*) \| (.*) \|", line)
        if not section or not row or row[1] in ("claim", "---"):
            continue
        words, backing = row.groups()
        count += 1
        if not stands_in(words, squeeze(texts[section])):
            complain(where, "%s does not say: %s" % (section, words))
        things = re.findall(r"`(\w+): ([^`]+)`", backing)
        if re.search(r"\bnot tested: \w", backing):
            (partly if things else unbacked).append(where)
        elif not things and not re.match(r"by hand: \w", backing):
            complain(where, "nothing backs: " + words)
        for kind, what in things:
            wrong = sources.backs(kind, what, words, results)
            if wrong:
                complain(where, "%s: %s" % (wrong, what))
        if "bench" not in [kind for kind, _ in things]:
            claimed[section].update(re.findall(NUMBER, words))
    for path in files("series/cover-letter*.txt", "README.md", "PERFORMANCE.md", "series/FAQ.txt", RST):
        if path not in texts:
            complain("CLAIMS.md", "no section for " + path)
            texts[path] = read(path)
    figures = sum(check_figures(p, t, claimed.get(p, ()), results) for p, t in texts.items() if p != "TESTED.md")
    check_matrix()
    for problem in problems:
        print(problem)
    print("%d claims, of which %d are not tested and %d in part; %d figures; %d problems" %
          (count, len(unbacked), len(partly), figures, len(problems)))
    return len(problems) > 0


if __name__ == "__main__":
    sys.exit(main())
