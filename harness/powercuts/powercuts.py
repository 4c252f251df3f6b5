#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Cut the power of guests in which devices write files through HMM, and look what is left.

powercuts.py               CUTS of them (200), with random numbers from SEED
                           WRITES: at most so many begins and ends of writes in each (200)
powercuts.py check FOLDER  look once more at what a cut left that failed

A guest mounts an ext4 and an xfs on an NVDIMM, whose image is a file of the host, and
prints what is in their files; then it goes on writing, by test_hmm, edu and the CPU, and
tells the host of each write before it begins and when it is synced: by msync(), fsync(),
fdatasync(), or the CPU's write-back of its caches with MAP_SYNC. After some random time
QEMU is killed. The next guest gets that image, and so on. From what it was told, the host
knows what each piece of a file can be: as the last acknowledged write left it, or any
later one. See power-writer.c.

First, guests that lie have to be found out: the writer acknowledges before it syncs, or
without, and one block of an image is lost. BROKEN=early|never|lost does only that one, and
is a failure when the lie is found out, which keeps its image.
"""

import glob
import json
import mmap
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time

TOP = os.path.realpath(os.path.dirname(__file__) + "/../..")
BUILD = os.path.realpath(os.environ.get("BUILD") or TOP + "/build")
KERNEL = os.environ.get("KERNEL") or "series"
OUT = BUILD + "/powercuts"
LONGEST = 60            # seconds that it waits for what the writer tells

# As in power-writer.c. A unit is what the smallest write writes.
FILES = 8
SIZE = 4 << 20
UNIT = 2048
NAMES = ["%s/f%d" % (fs, n) for fs in ("ext4", "xfs") for n in range(4)]
FULL = SIZE // UNIT
WRITES = 200
MASK = (1 << 64) - 1

SPLATS = re.compile(r"BUG:|WARNING:|KASAN:|UBSAN:|INFO: (task|rcu|possible|trying)|Oops|"
                    r"general protection|Kernel panic|DMA-API: .*(error|leak|fail)|"
                    r"DMAR: .*fault addr")
LIES = {
    "never": "a writer that does not sync",
    "early": "a writer that says so before it syncs",
    "lost": "a block of the image that is lost",
}


def say(text):
    print("hmm-dax: " + text, file=sys.stderr, flush=True)


def die(text):
    say(text)
    sys.exit(1)


def word_at(seed, file, offset, gen):
    """What power-writer writes there: 8 bytes as a number."""
    if gen == 0:
        return 0
    x = (seed + (file << 32 | offset // 8) * 0x9e3779b97f4a7c15) & MASK
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9 & MASK
    x = (x ^ x >> 27) * 0x94d049bb133111eb & MASK
    x ^= x >> 31
    return (x >> 32 | 1) << 32 | gen


class Model:
    """What each unit of each file can be: generations, the latest last; 0 is zeroes."""

    def __init__(self, seed, gen=1, units=None, sizes=None, writes=None):
        self.seed = seed
        self.gen = gen
        self.units = units or [[[0] for _ in range(FULL)] for _ in range(FILES)]
        self.sizes = sizes or [[SIZE] for _ in range(FILES)]
        self.writes = writes or [{} for _ in range(FILES)]     # by generation, in words

    @classmethod
    def load(cls, path):
        with open(path) as file:
            return cls(**json.load(file))

    def save(self, path):
        with open(path, "w") as file:
            json.dump(vars(self), file)

    def begin(self, file, gen, ranges, may_end_at, words):
        """Before this, no unit is of that generation."""
        for start, end, value in ranges:
            for unit in self.units[file][start // UNIT:-(-end // UNIT)]:
                if unit[-1] != value:
                    unit.append(value)
        if may_end_at is not None:
            self.sizes[file] = [may_end_at] + self.sizes[file]
        self.writes[file][str(gen)] = words
        self.gen = max(self.gen, gen)

    def acknowledge(self, file, start, end):
        units = self.units[file]
        for n in range(start // UNIT, -(-end // UNIT)):
            if len(units[n]) > 1:
                units[n] = units[n][-1:]
        self.sizes[file] = [size for size in self.sizes[file] if size >= end]

    def judge(self, dump, counts):
        """What is wrong in that dump, as texts. And from now on, it is the model."""
        wrong = []
        for file in range(FILES):
            size, runs = dump.get(file, (None, []))
            if size not in self.sizes[file]:
                wrong.append("%s: its size is %s, not %s" % (
                    NAMES[file], size, " or ".join(map(str, sorted(set(self.sizes[file]))))))
            wrong += self.judge_file(file, size or 0, runs, counts)
        return wrong

    def judge_file(self, file, size, runs, counts):
        wrong = []
        old = self.units[file]
        seen = [[] for _ in range(FULL)]
        end = 0
        for start, length, what in runs:
            if isinstance(what, str):
                start, gens = self.torn(file, start, what, old)
                if gens is None:
                    wrong.append("%s at %#x: %s, which is neither zero nor a word of this "
                                 "file and place" % (NAMES[file], start, what[1:]))
                    continue
                counts["torn"] += 1
                seen[start // UNIT] += gens
                end = max(end, start + 8)
                continue
            end = max(end, start + length)
            for n in range(start // UNIT, -(-(start + length) // UNIT)):
                if n >= FULL or what not in old[n]:
                    wrong.append(self.explain(file, max(start, n * UNIT), what, n))
                    # The rest of the stretch is no news.
                    break
                if what not in seen[n]:
                    seen[n].append(what)
        if end != size and size is not None:
            wrong.append("%s: %d of its %d bytes could be read" % (NAMES[file], end, size))
        for n in range(FULL):
            if len(old[n]) == 1:
                continue
            counts["open"] += 1
            counts["mixed" if len(seen[n]) > 1 else "new" if old[n][-1] in seen[n] else
                   "old" if old[n][0] in seen[n] else "between"] += 1
        # What was cut off is made again, as zeroes.
        self.units[file] = [gens or [0] for gens in seen]
        self.sizes[file] = [size] if size == SIZE else [size, SIZE]
        self.writes[file] = {}
        return wrong

    def torn(self, file, start, what, units):
        """The generations that such a word consists of, if it can."""
        if not re.fullmatch("=[0-9a-f]{16}", what) or start >= SIZE:
            return start, None
        gens = units[start // UNIT]
        words = [word_at(self.seed, file, start, gen).to_bytes(8, "little") for gen in gens]
        got = int(what[1:], 16).to_bytes(8, "little")
        if len(gens) > 1 and all(got[i] in {word[i] for word in words} for i in range(8)):
            return start, list(gens)
        return start, None

    def explain(self, file, at, what, n):
        if n >= FULL:
            return "%s at %#x: the file goes on" % (NAMES[file], at)

        def name(gen):
            said = self.writes[file].get(str(gen))
            return ("zero" if not gen else "write %d" % gen) + (" (%s)" % said if said else "")
        return "%s at %#x: %s; it has to be %s" % (
            NAMES[file], at, name(what), " or ".join(map(name, self.units[file][n])))


class Guest:
    """A guest that runs COMMAND on the images in FOLDER. Reads what it prints."""

    def __init__(self, folder, command):
        self.log = folder + "/guest.err"
        self.kernel_log = folder + "/kernel.log"
        env = dict(os.environ, KERNEL=KERNEL, PMEM=folder, RUN=command,
                   KERNEL_LOG=self.kernel_log)
        env["GUEST_TIMEOUT"] = env.get("GUEST_TIMEOUT") or "3600"
        with open(self.log, "w") as err:
            self.process = subprocess.Popen([TOP + "/harness/guest"], env=env, stderr=err,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.fd = self.process.stdout.fileno()
        self.rest = b""
        self.ended = False

    def lines(self, seconds=None):
        """Each line that it prints, until it ends or the time is up."""
        deadline = time.monotonic() + seconds if seconds is not None else None
        while not self.ended:
            while b"\n" in self.rest:
                line, self.rest = self.rest.split(b"\n", 1)
                yield line.decode(errors="replace").rstrip("\r")
            left = deadline - time.monotonic() if deadline is not None else None
            if left is not None and left <= 0:
                return
            if not select.select([self.fd], [], [], left)[0]:
                return
            data = os.read(self.fd, 1 << 16)
            self.rest += data
            self.ended = not data

    def cut(self):
        """Kill QEMU, at once; returns what it still had said, as far as lines are whole."""
        self.process.terminate()        # harness/guest: then that sends QEMU a SIGKILL
        said = list(self.lines())
        self.process.wait()
        return said

    def why(self):
        self.process.wait()
        with open(self.log) as file:
            return file.read().strip().splitlines()[-3:]

    def was_silent(self):
        return self.ended and any("was started twice and was silent" in line
                                  for line in self.why())

    def splats(self):
        try:
            with open(self.kernel_log, errors="replace") as file:
                return ["the kernel complained: " + line.strip() for line in file
                        if SPLATS.search(line) and not re.search("RETBleed|Spectre", line)][:5]
        except OSError:
            return []


def numbers(words):
    return [int(word) for word in words]


def read_dump(guest):
    """(what is wrong, the files) as a guest prints them before it writes."""
    dump, wrong = {}, []
    for line in guest.lines():
        words = line.split(" ")
        if words[0] == "R":
            return wrong, dump
        if words[0] == "S":
            dump[int(words[1])] = (int(words[2]), [])
        elif words[0] == "D":
            file, start, length = numbers(words[1:4])
            what = " ".join(words[4:])
            dump[file][1].append((start, length, what if what[0] == "=" else int(what)))
        else:
            wrong.append(line[2:] if words[0] == "F" else line)
    return wrong + ["the guest ended too early"] + guest.why(), dump


class Run:
    def __init__(self, seed):
        self.seed = seed
        self.rng = random.Random(seed)
        self.counts = dict.fromkeys(("cuts", "writes", "acks", "cpu", "edu", "test_hmm", "leaves",
                                     "map_sync", "open", "old", "new", "between", "mixed",
                                     "torn"), 0)
        self.passed = self.failed = 0
        self.folder = "%s/run.%d" % (OUT, os.getpid())
        self.guest = None
        self.model = None
        self.pending = False            # a cut at whose image no guest has looked yet

    def boot(self, command):
        self.guest = Guest(self.folder, command)
        return self.guest

    def new_images(self):
        """Two file systems with empty files, made once."""
        made = self.folder + "/new"
        if not os.path.exists(made):
            wrong, _ = read_dump(self.boot("power-cut new"))
            self.guest.process.wait()
            if wrong:
                die("no file systems could be made: " + "; ".join(wrong))
            # The other NVDIMM stays as it is, empty: so booting is faster.
            os.rename(self.folder + "/pmem1", made)
        self.copy(made, self.folder + "/pmem1")
        self.model = Model(self.seed)
        self.pending = False

    @staticmethod
    def copy(source, target):
        subprocess.run(["cp", "--reflink=auto", source, target], check=True)

    def hear(self, line):
        """What the writer tells. Returns whether it makes sense."""
        words = line.split(" ")
        try:
            if words[0] == "B" and len(words) == 10:
                file, gen, zero_from, zero_to, start, end = numbers(words[1:7])
                self.model.begin(file, gen, [(zero_from, zero_to, 0), (start, end, gen)],
                                 zero_from if words[7] == "T" else None, " ".join(words[8:]))
                self.counts["writes"] += 1
                self.counts[words[8]] += 1
                return True
            if words[0] == "A" and len(words) == 6:
                file, _, start, end, leaves = numbers(words[1:])
                self.model.acknowledge(file, start, end)
                self.counts["acks"] += 1
                self.counts["map_sync"] += file & 1
                self.counts["leaves"] += leaves
                return True
        except (ValueError, IndexError, KeyError):
            pass
        return False

    def write_and_cut(self, files, syncer, told, lie="none"):
        """Look at what the last cut left, let the writer tell so much, and cut. Returns
        what is wrong.
        """
        guest, wrong = self.look_at("power-cut %d %d %d %d %s" % (
            self.seed, self.model.gen + 1, files, syncer, lie))
        if wrong:
            guest.cut()
            return wrong + guest.splats()
        said = []
        # From the first word on: loading modules and mounting take some time.
        for line in guest.lines():
            said.append(line)
            break
        # So many more, however fast that is on this machine.
        if told > 1:
            for line in guest.lines(LONGEST):
                said.append(line)
                if len(said) >= told:
                    break
        time.sleep(self.rng.uniform(0, 0.1))
        ended = guest.ended
        said += guest.cut()
        wrong = [line for line in said if not self.hear(line)]
        if ended:
            wrong += ["the guest ended by itself"] + guest.why()
        self.counts["cuts"] += 1
        self.pending = True
        return wrong + guest.splats()

    def look(self):
        """The same without writing."""
        guest, wrong = self.look_at("power-cut %d" % self.seed)
        guest.process.wait()
        return wrong + guest.splats()

    def look_at(self, command):
        self.copy(self.folder + "/pmem1", self.folder + "/cut")
        self.model.save(self.folder + "/model")
        for _ in range(5):
            guest = self.boot(command)
            wrong, dump = read_dump(guest)
            # One that has not come up, as on a busy machine, has touched nothing.
            if not guest.was_silent():
                break
        wrong = wrong or self.model.judge(dump, self.counts)
        if not wrong:
            self.passed += self.pending
            self.pending = False
        return guest, wrong

    def lose_a_block(self):
        """Zero an acknowledged unit in the image. Returns whether there was one."""
        with open(self.folder + "/pmem1", "r+b") as file, mmap.mmap(file.fileno(), 0) as image:
            for nr, units in enumerate(self.model.units):
                for n, gens in enumerate(units):
                    if len(gens) > 1 or not gens[0]:
                        continue
                    word = word_at(self.seed, nr, n * UNIT, gens[0]).to_bytes(8, "little")
                    at = image.find(word)
                    while at >= 0:
                        image[at:at + UNIT] = bytes(UNIT)
                        at = image.find(word, at + UNIT)
                    return True
        return False

    def keep(self, wrong, what):
        """A failed cut: its image, and how to look at it again."""
        kept = "%s/failed.%d" % (OUT, self.failed)
        while os.path.exists(kept):
            kept += "x"
        os.makedirs(kept)
        os.rename(self.folder + "/cut", kept + "/pmem1")
        os.rename(self.folder + "/model", kept + "/model")
        if os.path.exists(self.guest.kernel_log):
            shutil.copy(self.guest.kernel_log, kept + "/log")
        with open(kept + "/wrong", "w") as file:
            file.write("\n".join(wrong) + "\n")
        print("not ok %s (SEED=%d)" % (what, self.seed))
        for text in wrong[:10]:
            print("    " + text)
        if len(wrong) > 10:
            print("    and %d more, in %s/wrong" % (len(wrong) - 10, kept))
        print("    again: %s/harness/powercuts/powercuts.py check %s" % (TOP, kept), flush=True)

    def lie(self, lie):
        """Returns the texts that find this lie out."""
        self.new_images()
        for _ in range(12 if lie == "early" else 4):
            wrong = self.write_and_cut((1 << FILES) - 1 if lie != "early" else
                                       self.rng.choice((0x11, 0x44)), 0,
                                       self.rng.randint(WRITES // 2, WRITES),
                                       "none" if lie == "lost" else lie)
            if wrong:
                return wrong
            if lie == "lost" and not self.lose_a_block():
                continue
            if lie != "early":
                break
        return self.look()

    def lies(self):
        for lie, text in LIES.items():
            passed = self.passed
            wrong = self.lie(lie)
            self.passed = passed        # one result for each
            # A guest that dies is no lie found out.
            found = [line for line in wrong if " it has to be " in line or "its size is" in line]
            names = sorted({line.split(":")[0].split(" ")[0] for line in found})
            if wrong and len(found) == len(wrong):
                self.passed += 1
                print("ok %s: found out in %s" % (text, " ".join(names)), flush=True)
            else:
                self.failed += 1
                self.keep(wrong, "%s: not found out" % text)

    def cut_files(self):
        """Not always all of them: whoever syncs makes others' metadata last, too."""
        while True:
            files = self.rng.choice((0xff, 0x0f, 0xf0)) & self.rng.getrandbits(FILES)
            if files:
                return files

    def cuts(self, number):
        done, fresh, start, due = 0, True, time.monotonic(), 0
        while done < number or self.pending:
            if fresh:
                self.new_images()
            before = self.counts["cuts"]
            if done == number:
                wrong = self.look()
            else:
                wrong = self.write_and_cut(self.cut_files(), self.rng.randrange(4) == 0,
                                           self.rng.randint(1, WRITES))
            # It is wrong what the cut before left, or the writer.
            done += fresh or self.counts["cuts"] > before
            fresh = bool(wrong)
            if wrong:
                self.failed += 1
                self.pending = False
                self.keep(wrong, "cut %d" % done)
            if time.monotonic() > due:
                due = time.monotonic() + (1 if sys.stderr.isatty() else 20)
                say("power cuts: %d of %d, %d writes, %d s" % (
                    done, number, self.counts["writes"], time.monotonic() - start))

    def report(self):
        c = self.counts
        print("cuts of ext4 and xfs: %d, amid %d writes: %d by test_hmm, %d by edu, %d by the "
              "CPU" % (c["cuts"], c["writes"], c["test_hmm"], c["edu"], c["cpu"]))
        print("acknowledged: %d, of these %d with MAP_SYNC; %d went into leaves of 2 MiB" % (
            c["acks"], c["map_sync"], c["leaves"]))
        print("units of 2 KiB not yet acknowledged at a cut: %d; then old %d, new %d, between %d, "
              "mixed %d (torn words: %d)" % (c["open"], c["old"], c["new"], c["between"],
                                             c["mixed"], c["torn"]))

    def end(self):
        if self.guest and self.guest.process.poll() is None:
            self.guest.process.terminate()
            self.guest.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def number_of(name, default):
    value = os.environ.get(name) or default
    if not re.fullmatch("[0-9]+", str(value)):
        die("%s=%s: give a number" % (name, value))
    return int(value)


def check_again(run, kept):
    run.model = Model.load(kept + "/model")
    run.seed = run.model.seed
    run.copy(kept + "/pmem1", run.folder + "/pmem1")
    wrong = run.look()
    print("\n".join(wrong))
    print("not ok: %d things are wrong" % len(wrong) if wrong else "ok: all that was "
          "acknowledged is there")
    return bool(wrong)


def main():
    global WRITES
    seed = number_of("SEED", int.from_bytes(os.urandom(4), "little"))
    cuts = number_of("CUTS", 200)
    WRITES = number_of("WRITES", WRITES)
    broken = os.environ.get("BROKEN") or None
    if broken and broken not in LIES:
        die("BROKEN=%s: there are %s" % (broken, ", ".join(LIES)))
    check = sys.argv[1:2] == ["check"] and len(sys.argv) == 3
    if len(sys.argv) > 1 and not check:
        die("usage: powercuts.py [check FOLDER]")
    if os.environ.get("ARCH", "x86_64") not in ("", "x86_64") or os.environ.get("CONFIG"):
        die("power is cut on x86_64 only, without CONFIG=")
    run = Run(seed)
    for old in glob.glob(OUT + "/run.*"):       # of a run that was killed outright
        if not os.path.exists("/proc/" + old.split(".")[-1]):
            shutil.rmtree(old, ignore_errors=True)
    os.makedirs(run.folder)
    # So that no guest is left behind, also when it runs in the background.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        if check:
            return check_again(run, sys.argv[2])
        say("SEED=%d" % seed)
        if broken:
            wrong = run.lie(broken)
            if wrong:
                run.failed = 1
                run.keep(wrong, LIES[broken])
            run.passed = int(not wrong)
        else:
            run.lies()
            run.counts = dict.fromkeys(run.counts, 0)
            run.cuts(cuts)
            run.report()
        print("%d passed, %d failed, 0 skipped" % (run.passed, run.failed))
        return bool(run.failed)
    finally:
        run.end()


if __name__ == "__main__":
    sys.exit(main())
