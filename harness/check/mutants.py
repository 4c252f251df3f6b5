#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""mutants.py [LIST]: take one protection after another out of the kernel, and see the
test fail that is there for it.

LIST is harness/check/mutants.list unless given; its head says how it is written. Each
change is made to a working tree of its own in build/mutants, what it is part of is
built anew, and the step of harness/check/check runs in the guest. A mutant is caught, and
counted as passed, if a test fails whose name contains what the list says; before
that each step has to pass without any. The last line counts.

  ONLY=text   only mutants whose name or file contains it
  LIST=yes    try nothing: print the list, and fail if anything in it is not in the
              tree any more"""
import os
import re
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD") or f"{TOP}/build"
WORK = f"{BUILD}/mutants"
TREE = f"{WORK}/linux"
TESTS = f"{TOP}/harness/guest-tests.sh"

# A line of a log that can name what failed: a result, or what iommu-balance, the
# harness or the kernel complained of.
FAILURE = re.compile(r"^(# )*not ok |^iommu-balance: |^hmm-dax: |(BUG|WARNING|KASAN): |kernel BUG at ")


def die(text):
    sys.exit(f"hmm-dax: {text}")


def say(text):
    print("hmm-dax:", text, file=sys.stderr, flush=True)


class Rotten(Exception):
    pass


class Hunk:
    """Whole lines of one file, compared without the white space around them."""

    def __init__(self, file):
        self.file = file
        self.lines = []     # (" ", "-" or "+", text)

    def apply(self, text):
        lines = text.split("\n")
        old = [t for kind, t in self.lines if kind != "+"]
        if not old or all(kind == " " for kind, _ in self.lines):
            raise Rotten(f"{self.file}: nothing is changed")
        bare = [line.strip() for line in lines]
        at = [i for i in range(len(bare) - len(old) + 1) if bare[i:i + len(old)] == old]
        if len(at) != 1:
            raise Rotten(f"{self.file}: is there {len(at)} times, not once: {old[0]}")
        i = at[0]
        indent = re.match(r"\s*", lines[i])[0]
        new = lines[:i]
        for kind, t in self.lines:
            if kind == "+":
                new.append(indent + t)
                continue
            indent = re.match(r"\s*", lines[i])[0]
            if kind == " ":
                new.append(lines[i])
            i += 1
        return "\n".join(new + lines[i:])


class Mutant:
    def __init__(self, where):
        self.where = where
        self.hunks = []
        self.name = self.what = self.kernel = self.step = self.test = ""

    def add(self, line):
        key, _, value = line.partition(":")
        if line[:2] in ("- ", "+ ", "  ") or line in ("-", "+"):
            if not self.hunks:
                raise Rotten("a changed line before the first file:")
            self.hunks[-1].lines.append((line[0], line[2:].strip()))
        elif key == "file":
            self.hunks.append(Hunk(value.strip()))
        elif key in ("name", "what", "kernel", "step", "test") and not getattr(self, key):
            setattr(self, key, value.strip())
        else:
            raise Rotten(f"not understood: {line}")

    def files(self):
        return list(dict.fromkeys(h.file for h in self.hunks))

    def mutated(self, tree):
        """What its files become: {file: text}."""
        texts = {}
        for h in self.hunks:
            if h.file not in texts:
                try:
                    with open(f"{tree}/{h.file}") as f:
                        texts[h.file] = f.read()
                except OSError:
                    raise Rotten(f"{h.file}: no such file") from None
            texts[h.file] = h.apply(texts[h.file])
        return texts

    def check(self, tree, steps):
        for key in "name", "what", "step", "test", "hunks":
            if not getattr(self, key):
                raise Rotten(f"no {key}")
        if self.kernel not in ("series", "debug"):
            raise Rotten(f"kernel: there are series and debug, not {self.kernel}")
        if self.step.split()[0] not in steps:
            raise Rotten(f"harness/guest-tests.sh has no function {self.step.split()[0]}")
        self.mutated(tree)


def read(path):
    mutants, bad = [], []
    current = None
    with open(path) as f:
        for n, line in enumerate(f, 1):
            line = line.rstrip()
            if line.startswith("#"):
                continue
            if not line:
                current = None
                continue
            if not current:
                current = Mutant(f"{os.path.basename(path)}:{n}")
                mutants.append(current)
            try:
                current.add(line)
            except Rotten as e:
                bad.append(f"{current.where}: {e}")
    for m in mutants:
        m.kernel = m.kernel or "series"
    names = [m.name for m in mutants]
    bad += [f"two mutants are named {n}" for n in sorted(set(names)) if names.count(n) > 1]
    if bad:
        die(bad[0])
    return mutants


def bash(script, *args, **kwargs):
    return subprocess.run(["bash", "-c", script, "bash", *args], stdin=subprocess.DEVNULL, **kwargs)


def functions():
    return set(bash(f". {TESTS}; compgen -A function", capture_output=True, text=True, check=True).stdout.split())


def git(tree, *args):
    return subprocess.run(["git", "-C", tree, *args], check=True, capture_output=True, text=True).stdout.strip()


def checkout():
    """A working tree of build/linux as it is, edits of its files included."""
    linux = f"{BUILD}/linux"
    revision = git(linux, "stash", "create") or git(linux, "rev-parse", "HEAD")
    base = f"{BUILD}/base/id"
    if subprocess.run(["cmp", "-s", base, f"{WORK}/base/id"]).returncode:
        subprocess.run(["rm", "-rf", WORK], check=True)
    if not os.path.isdir(TREE):
        git(linux, "worktree", "prune")
        git(linux, "worktree", "add", "-q", "--detach", TREE, revision)
        os.makedirs(f"{WORK}/base", exist_ok=True)
        subprocess.run(["cp", base, f"{WORK}/base/id"], check=True)
    git(TREE, "checkout", "-q", "-f", "--detach", revision)


class Kernel:
    def __init__(self, name):
        self.name = name
        self.out = f"{WORK}/kernel-{name}"
        self.stale = set()      # targets that have the last mutant in them

    def build(self, *targets):
        """All of it, or these targets. Returns whether it compiles."""
        env = dict(os.environ, BUILD=WORK)
        good = subprocess.run([f"{TOP}/harness/build", self.name, *targets], env=env).returncode == 0
        # With a mutant it is not what the next run would take it for.
        subprocess.run(["rm", "-f", f"{self.out}/built"], check=True)
        return good

    def build_all(self):
        say(f"the {self.name} kernel that the mutants are made of")
        if not self.build():
            die("it does not build, see above")
        # Which modules an object is part of; what is in none is in the kernel itself.
        self.modules = {}
        for folder, folders, files in os.walk(self.out):
            if folder == self.out:
                folders[:] = [name for name in folders if name != "modules"]
            for name in files:
                if name.endswith(".mod"):
                    ko = os.path.relpath(f"{folder}/{name[:-4]}.ko", self.out)
                    with open(f"{folder}/{name}") as f:
                        for o in f.read().split():
                            self.modules.setdefault(o, []).append(ko)

    def targets(self, mutant):
        """What has to be built anew; nothing stands for everything."""
        targets = set()
        for file in mutant.files():
            o = file[:-2] + ".o"
            if not file.endswith(".c"):
                return set()
            if o in self.modules:
                targets.update(self.modules[o])
            elif os.path.exists(f"{self.out}/{o}"):
                targets.add("bzImage")
            elif not mocks_include(file):
                return set()
            if mocks_include(file):
                targets.add("harness/mocks")
        return targets

    def build_mutant(self, mutant):
        targets = self.targets(mutant)
        compiled = self.build(*sorted(targets | self.stale)) if targets else self.build()
        self.stale = targets
        return compiled

    def build_again(self, mutant):
        """After a mutant that everything was built for."""
        if not self.targets(mutant):
            self.build()


def mocks_include(file):
    """Is it a driver's file that only a suite of harness/mocks has?"""
    folder = f"{TOP}/harness/mocks"
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if name.endswith(".c"):
            with open(f"{folder}/{name}") as f:
                if re.search(rf'#include ["<][^">]*\b{re.escape(os.path.basename(file))}[">]', f.read()):
                    return True
    return False


def run(kernel, step, log):
    """Run a step of harness/check/check, of 10 minutes at most. Returns its status."""
    words = step.split()
    script = f""". {TOP}/harness/lib.sh; . {TESTS}
        in_guest() {{ KERNEL=$1 GUEST_TIMEOUT=$(($2 < 600 ? $2 : 600)) RUN=$3 {TOP}/harness/guest; }}
        "$2" "$1" "${{@:3}}" """
    env = {k: v for k, v in os.environ.items() if k not in ("SPLAT", "PMEM", "P2PDMA", "CLOCK")}
    env["BUILD"] = WORK
    with open(log, "w") as f:
        return bash(script, kernel.name, *words, stdout=f, stderr=subprocess.STDOUT, env=env).returncode


def failures(log):
    with open(log, errors="replace") as f:
        return [line.rstrip() for line in f if FAILURE.search(line) and " 0 complaints" not in line]


def count(log):
    out = bash(f'. {TESTS}; tap "$1"', log, capture_output=True, text=True).stdout.split()
    return [int(n) for n in out] if len(out) == 3 else [0, 0, 0]


class Results:
    def __init__(self):
        self.passed = self.failed = 0

    def add(self, good, text, details=()):
        self.passed += good
        self.failed += not good
        print("ok" if good else "not ok", text)
        for line in list(details)[:8]:
            print("    " + line)
        sys.stdout.flush()

    def end(self, skipped=0):
        print(f"{self.passed} passed, {self.failed} failed, {skipped} skipped")
        sys.exit(self.failed > 0)


def show(mutants, results):
    for m in mutants:
        print(f"{m.name}: {m.what}\n    {', '.join(m.files())}\n    {m.kernel} kernel, {m.step}: {m.test}")
    for m in mutants:
        if m.rotten:
            results.add(False, f"{m.where}: {m.name}", [m.rotten])
        else:
            results.passed += 1
    print(f"{results.passed} of {len(mutants)} mutants still apply")
    sys.exit(results.failed > 0)


def try_all(mutants, results):
    logs = f"{WORK}/logs"
    os.makedirs(logs, exist_ok=True)
    kernels = {name: Kernel(name) for name in dict.fromkeys(m.kernel for m in mutants if not m.rotten)}
    good = set()
    for kernel in kernels.values():
        kernel.build_all()
        steps = dict.fromkeys(m.step for m in mutants if not m.rotten and m.kernel == kernel.name)
        for n, step in enumerate(steps):
            if without_mutant(kernel, step, f"{logs}/without-{kernel.name}-{n}.log", results):
                good.add((kernel.name, step))

    def order(m):
        return "" if m.rotten else m.kernel + " ".join(sorted(kernels[m.kernel].targets(m)))

    for m in sorted(mutants, key=order):
        if m.rotten:
            results.add(False, m.name, [m.rotten])
        elif (m.kernel, m.step) not in good:
            results.add(False, f"{m.name}: not tried, {m.step} fails without it")
        else:
            try_one(m, kernels[m.kernel], f"{logs}/{m.name}.log", results)


def without_mutant(kernel, step, log, results):
    start = time.time()
    status = run(kernel, step, log)
    p, f, s = count(log)
    good = status == 0 and p and not f
    results.add(good, f"without a mutant: {step}, {kernel.name} kernel ({p} passed, {f} failed, {s} skipped, "
                f"{time.time() - start:.0f} s)", [] if good else
                failures(log) + [f"status {status}; the whole log is {log}"])
    return good


def try_one(m, kernel, log, results):
    start = time.time()
    texts = m.mutated(TREE)
    for file, text in texts.items():
        with open(f"{TREE}/{file}", "w") as f:
            f.write(text)
    compiled = kernel.build_mutant(m)
    if compiled:
        status = run(kernel, m.step, log)
    git(TREE, "checkout", "--", *texts)
    kernel.build_again(m)
    if not compiled:
        results.add(False, f"{m.name}: does not compile")
        return
    found = failures(log)
    seconds = f"{time.time() - start:.0f} s"
    if any(m.test in line for line in found):
        results.add(True, f"{m.name}: {m.step}: {m.test} ({seconds})")
    elif found or status:
        results.add(False, f"{m.name}: not by {m.test}, but:", found + [f"status {status}; the whole log is {log}"])
    else:
        results.add(False, f"{m.name}: survives {m.step} ({seconds})", [f"the whole log is {log}"])


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else f"{TOP}/harness/check/mutants.list"
    mutants = read(path)
    only = os.environ.get("ONLY", "")
    chosen = [m for m in mutants if only in m.name or any(only in f for f in m.files())]
    if not chosen:
        die(f"ONLY={only}: no mutant's name or file contains that, see make mutants LIST=yes")
    listing = os.environ.get("LIST", "")
    if not listing:
        checkout()
    tree = f"{BUILD}/linux" if listing else TREE
    steps = functions()
    for m in chosen:
        m.rotten = ""
        try:
            m.check(tree, steps)
        except Rotten as e:
            m.rotten = str(e)
    results = Results()
    if listing:
        show(chosen, results)
    try_all(chosen, results)
    results.end()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
