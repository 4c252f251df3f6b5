#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""peers.py: other people's tests of DAX, on the base and on the series, side by side.

Each suite is a program beside this one. It runs in a guest of each kernel, and prints
TAP, the results by name. A test that passes on the base and not on the series has
failed. One that fails on both is listed, and counts as skipped. So does a suite whose
source is not given. The last line counts.

  ONLY='suite...'   only these suites
  LIST=yes          run nothing: print them, and the tree that each needs
  XFSTESTS=folder   a built tree of xfstests; TESTS='-g dax' is what its check is told
  NDCTL=folder      a tree of ndctl, built in its folder build
  MIRROR=yes        a device mirrors all that the tests map of DAX, and reads it all the
                    time (mirror.c)

Logs are in build/peers (with MIRROR=yes in build/peers/mirror)."""
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("BUILD") or f"{TOP}/build"
MIRROR = os.environ.get("MIRROR") == "yes"
OUT = f"{BUILD}/peers/mirror" if MIRROR else f"{BUILD}/peers"

RESULT = re.compile(r"^(not )?ok (.*?)( # SKIP.*)?$")
GUESTS_OWN = "/tmp/", "/run/", "/mnt/"
GUEST_STATUS = {124: "not done in time", 125: "the kernel complains", 126: "the guest died"}


@dataclass
class Suite:
    name: str
    what: str
    program: str            # and its arguments
    seconds: int            # a limit for the guest
    source: str = ""        # the variable that names the tree it is in


SUITES = [
    Suite("fio", "fio's engines libpmem, mmap and dev-dax, with verification", "fio", 1200),
    Suite("pmdk", "PMDK's pmempool", "pmdk", 1200),
    Suite("perftest", "perftest with on-demand paging, over soft-RoCE", "perftest", 900),
    Suite("xfstests-ext4", "xfstests' dax group on ext4", "xfstests ext4", 14400, "XFSTESTS"),
    Suite("xfstests-xfs", "xfstests' dax group on xfs", "xfstests xfs", 14400, "XFSTESTS"),
    Suite("ndctl", "ndctl's tests of DAX", "ndctl", 3600, "NDCTL"),
]


def die(text):
    sys.exit(f"hmm-dax: {text}")


def say(text):
    print("hmm-dax:", text, file=sys.stderr, flush=True)


def read(log):
    """The results in it: {name: "ok", "FAIL" or "skip"}. The worst one of a name counts."""
    results = {}
    for line in log.splitlines():
        m = RESULT.match(line.strip())
        if not m:
            continue
        result = "FAIL" if m[1] else "skip" if m[3] else "ok"
        if results.get(m[2]) != "FAIL":
            results[m[2]] = result
    return results


def run(suite, kernel):
    """The suite's results on that kernel."""
    say(f"{suite.name} on the {kernel} kernel")
    environment = {name: os.environ.get(name, "") for name in ("XFSTESTS", "NDCTL", "TESTS")}
    environment["MIRROR"] = f"{BUILD}/peers" if MIRROR else ""
    words = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    with open(f"{OUT}/{suite.name}-{kernel}.log", "w+") as log:
        guest = subprocess.Popen([f"{TOP}/harness/guest"], stdout=log, stderr=log, env={
            **os.environ, "KERNEL": kernel, "GUEST_TIMEOUT": str(suite.seconds),
            "KERNEL_LOG": f"{OUT}/{suite.name}-{kernel}.kernel.log",
            "RUN": " ".join(words + [f"{HERE}/{suite.program}"])})
        try:
            status = guest.wait()
        except BaseException:
            guest.terminate()   # or it would go on
            guest.wait()
            raise
        log.seek(0)
        results = read(log.read())
    # The programs end with 0 whatever their results are.
    results["(the guest)"] = "ok" if status == 0 and results else "FAIL"
    if status:
        say(f"{suite.name}, {kernel}: {GUEST_STATUS.get(status, f'status {status}')}; "
            f"the whole log is {log.name}")
    return results


def verdict(base, series):
    """What counts: "passed", "failed" or "skipped", and a remark."""
    if series == "ok":
        return "passed", "fails on the base" if base == "FAIL" else ""
    if base == "ok" or (series == "FAIL" and base != "FAIL"):
        return "failed", "REGRESSION"
    return "skipped", "fails on both" if series == base == "FAIL" else ""


def compare(suite, counts, listed):
    base, series = run(suite, "base"), run(suite, "series")
    if len(series) == 1:
        say(f"{suite.name}: no results on the series kernel")
        counts["failed"] += 1
        return
    for name in dict.fromkeys([*series, *base]):
        pair = base.get(name, "none"), series.get(name, "none")
        count, remark = verdict(*pair)
        counts[count] += 1
        print(f"{suite.name:14} {name:32} {pair[0]:6} {pair[1]:6} {remark}".rstrip(), flush=True)
        if remark == "fails on both":
            listed.append(f"{suite.name} {name}")


def wanted():
    names = os.environ.get("ONLY", "").split()
    for name in names:
        if name not in [s.name for s in SUITES]:
            die(f"ONLY: no suite is named {name}; make peers LIST=yes prints them")
    return [s for s in SUITES if not names or s.name in names]


def check_source(suite):
    """The guest has to see it: of /tmp and the like only this clone and its build folder."""
    folder = os.environ.get(suite.source, "") if suite.source else ""
    if not folder:
        return
    if not os.path.isdir(folder):
        die(f"{suite.source}={folder} is not a folder")
    where = os.path.realpath(folder)
    if where.startswith(GUESTS_OWN) and not where.startswith((f"{TOP}/", f"{BUILD}/")):
        die(f"{suite.source}={folder}: the guest has files of its own in {', '.join(GUESTS_OWN)}")


def build_mirror():
    """For user programs of the guest, whose root is this machine's."""
    flags = "-D_GNU_SOURCE -O2 -Wall -Wextra -Werror -shared -fPIC".split()
    subprocess.run(["gcc", *flags, f"-I{BUILD}/base/linux", f"{HERE}/mirror.c",
                    "-o", f"{BUILD}/peers/mirror.so", "-lpthread"], check=True)


def main():
    if len(sys.argv) > 1:
        die(f"peers.py takes no arguments: give ONLY=, LIST=yes and the like, not {sys.argv[1]}")
    suites = wanted()
    for s in suites:
        check_source(s)
    if os.environ.get("LIST"):
        for s in suites:
            print(f"{s.name:14} {s.what}{f'; {s.source}=folder' if s.source else ''}")
        return 0
    os.makedirs(OUT, exist_ok=True)
    if MIRROR:
        build_mirror()
    counts, listed = {"passed": 0, "failed": 0, "skipped": 0}, []
    print(f"{'':14} {'':32} {'base':6} {'series':6}".rstrip())
    for s in suites:
        if s.source and not os.environ.get(s.source):
            print(f"{s.name:14} {s.source}= is not given")
            counts["skipped"] += 1
            continue
        compare(s, counts, listed)
    if listed:
        print("What fails on both:", *listed, sep="\n    ")
    print(", ".join(f"{n} {what}" for what, n in counts.items()))
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
