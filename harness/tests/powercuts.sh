#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# How make powercuts judges what a cut left, without a guest: what each piece of a file can
# be, and whole runs with a stand-in for the guest, whose image is the files themselves.
. "$(dirname "$0")/lib.sh"

python3 - "$TOP" <<'END' || failures=1
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1] + "/harness/powercuts")
import powercuts as p
bad = 0

def judge(name, model, runs, want, size=p.SIZE):
    """Of file 0; the others are as they were. WANT: a part of what is wrong, or None."""
    global bad
    empty = (p.SIZE, [(0, p.SIZE, 0)])
    dump = dict.fromkeys(range(1, p.FILES), empty)
    end = max([start + length for start, length, _ in runs], default=0)
    dump[0] = (size, runs + ([(end, size - end, 0)] if size > end else []))
    wrong = model.judge(dump, dict.fromkeys(("open", "old", "new", "between", "mixed", "torn"), 0))
    good = not wrong if want is None else len(wrong) == 1 and want in wrong[0]
    bad |= not good
    print("%s %s" % ("ok" if good else "not ok", name))
    if not good:
        print("# wanted %s, got %s" % (want, wrong))

def model(*steps):
    m = p.Model(7)
    for kind, *args in steps:
        if kind == "write":
            gen, start, end = args
            m.begin(0, gen, [(0, 0, 0), (start, end, gen)], None, "x")
        elif kind == "punch":
            gen, start, end = args
            m.begin(0, gen, [(start, end, 0), (start, end, gen)], None, "x")
        elif kind == "truncate":
            gen, start, end = args
            m.begin(0, gen, [(start, p.SIZE, 0), (start, end, gen)], start, "x")
        else:
            m.acknowledge(0, *args)
    return m

first = ("write", 2, 0, 4096), ("sync", 0, 4096)
judge("what was acknowledged is there", model(*first), [(0, 4096, 2)], None)
judge("it is not", model(*first), [(0, 4096, 0)], "at 0x0: zero; it has to be write 2 (x)")
judge("half of it is not", model(*first), [(0, 2048, 2), (2048, 2048, 0)], "at 0x800: zero")
judge("a word of it is not", model(*first), [(0, 8, 2), (8, 8, 0), (16, 4080, 2)], "at 0x8: zero")
over = first + (("write", 3, 0, 2048),)
judge("of two writes the old one", model(*over), [(0, 4096, 2)], None)
judge("of two writes the new one", model(*over), [(0, 2048, 3), (2048, 2048, 2)], None)
judge("a bit of each", model(*over), [(0, 24, 3), (24, 4072, 2)], None)
judge("neither", model(*over), [(0, 8, 0), (8, 4088, 2)],
      "it has to be write 2 (x) or write 3 (x)")
judge("one that has not begun", model(*over), [(0, 2048, 4), (2048, 2048, 2)], "write 4; it has")
judge("a hole, or what it was before", model(*first, ("punch", 3, 0, 2048)),
      [(0, 8, 0), (8, 4088, 2)], None)
judge("a sync of another range promises nothing", model(*over, ("sync", 4096, 8192)),
      [(0, 4096, 2)], None)
judge("a sync of all does", model(*over, ("sync", 0, p.SIZE)), [(0, 4096, 2)],
      "it has to be write 3 (x)")
old, new = (p.word_at(7, 0, 0, gen) for gen in (2, 0x303))
half = "=%016x" % ((old & ~0xff) | (new & 0xff))
torn = first + (("write", 0x303, 0, 2048),)
judge("a torn word", model(*torn), [(0, 8, half), (8, 4088, 2)], None)
judge("which is not legal once it is synced", model(*torn, ("sync", 0, 2048)),
      [(0, 8, half), (8, 2040, 0x303), (2048, 2048, 2)], "neither zero nor")
judge("bytes of others", model(*torn), [(0, 8, "=0123456789abcdef"), (8, 4088, 2)],
      "0123456789abcdef")
cut = first + (("truncate", 3, 2048, 4096),)
judge("a file cut short", model(*cut), [(0, 2048, 2)], None, size=2048)
judge("or not", model(*cut), [(0, 4096, 2)], None)
judge("or long again", model(*cut), [(0, 2048, 2)], None)
judge("of another size", model(*cut), [(0, 1024, 2)], "its size is 1024", size=1024)
judge("short, though acknowledged", model(*cut, ("sync", 0, p.SIZE)), [(0, 2048, 2)],
      "its size is 2048", size=2048)
m = model(*over)
judge("what has been seen once", m, [(0, 4096, 2)], None)
judge("stays so", m, [(0, 2048, 3), (2048, 2048, 2)], "at 0x0: write 3; it has to be write 2")
sys.exit(bad)
END

# A clone without a guest.
mkdir -p "$tmp/harness/powercuts" "$tmp/build"
cp "$TOP/harness/powercuts/powercuts.py" "$tmp/harness/powercuts/"
cat >"$tmp/harness/guest" <<'END'
#!/usr/bin/env python3
import os, random, signal, sys, time
top = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, top + "/harness/powercuts")
import powercuts as p
image = os.environ["PMEM"] + "/pmem1"
args = os.environ["RUN"].split()[1:]
signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
if args[0] == "new":
    open(os.environ["PMEM"] + "/pmem0", "w").close()
    with open(image, "wb") as file:
        file.truncate(p.FILES * p.SIZE)
    print("R")
    sys.exit()
seed = int(args[0])
data = open(image, "r+b", buffering=0)
for file in range(p.FILES):
    print("S", file, p.SIZE)
    for at in range(0, p.SIZE, 65536):
        piece = data.read(65536)
        if piece.count(0) == 65536:
            print("D", file, at, 65536, 0)
            continue
        for n in range(0, 65536, 8):
            word = int.from_bytes(piece[n:n + 8], "little")
            gen = word & 0xffffffff
            known = word == p.word_at(seed, file, at + n, gen)
            print("D", file, at + n, 8, gen if known else "=%016x" % word)
print("R", flush=True)
if len(args) == 1:
    sys.exit()
gen, files, lie, rng = int(args[1]), int(args[2]), args[4], random.Random(args[1])
while True:
    for file in (file for file in range(p.FILES) if files & 1 << file):
        at = rng.randrange(16) * p.UNIT
        print("B", file, gen, 0, 0, at, at + p.UNIT, "- cpu overwrite", flush=True)
        said = "A %d %d %d %d 0" % (file, gen, at, at + p.UNIT)
        if lie in ("early", "never"):
            print(said, flush=True)
        time.sleep(0.02)
        if lie != "never" and not os.path.exists(top + "/forgets"):
            for n in range(0, p.UNIT, 8):
                word = p.word_at(seed, file, at + n, gen).to_bytes(8, "little")
                os.pwrite(data.fileno(), word, file * p.SIZE + at + n)
        if lie not in ("early", "never"):
            print(said, flush=True)
    gen += 1
END
chmod +x "$tmp/harness/guest"
powercuts() { BUILD=$tmp/build "$tmp/harness/powercuts/powercuts.py" "$@"; }
last() { tail -n 1 "$tmp/out"; }
export CUTS=2 SEED=5 BROKEN='' WRITES=20
t "a guest that keeps what it promises" powercuts
equals "three lies and two cuts" "$(last)" "5 passed, 0 failed, 0 skipped"
equals "and no image is left" "$(ls -A "$tmp/build/powercuts")" ""
BROKEN=never t "BROKEN=never fails" bash -c \
	"! BUILD='$tmp/build' '$tmp/harness/powercuts/powercuts.py'"
again=$(sed -n 's/^ *again: //p' "$tmp/out")
equals "as one" "$(last)" "0 passed, 1 failed, 0 skipped"
t "the command that it prints finds the same" bash -c "! $again"
cp "$tmp/out" "$tmp/said"
t "and says what" grep -q 'it has to be write' "$tmp/said"
touch "$tmp/forgets"
t "a guest that forgets fails" bash -c "! BUILD='$tmp/build' '$tmp/harness/powercuts/powercuts.py'"
equals "each time, after a lie each" "$(last)" "3 passed, 2 failed, 0 skipped"
for bad in CUTS=x SEED=-1; do
	refuses "$bad" "${bad%=*}=.*: give a number" \
		env "$bad" "$tmp/harness/powercuts/powercuts.py"
done
BROKEN=x refuses "BROKEN=x" "there are never, early, lost" powercuts
refuses "another word" "usage: powercuts" powercuts no-such-word
finish
