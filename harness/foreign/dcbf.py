#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""dcbf.py VMLINUX OUT: a ppc64le kernel whose flushes of persistent memory QEMU executes.

The kernel flushes with dcbstps and dcbfps, and waits with phwsync: dcbf and hwsync with
another value in the L field. Processors before POWER10 ignore that value; QEMU 7.2 and
10.0 raise an illegal instruction, also with -cpu power10. This program clears the field
in the functions that use these instructions."""
import os
import struct
import sys

FUNCTIONS = ("arch_invalidate_pmem", "arch_wb_cache_pmem", "memcpy_flushcache",
             "copy_from_user_flushcache", "generic_nvdimm_flush")
FIELD = 7 << 21
FLUSHES = 0x7cc000ac, 0x7c8000ac, 0x7c8004ac    # without registers


def segments(image):
    """What is loaded: address, size and offset in the file."""
    offset, = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    for at in range(offset, offset + size * count, size):
        kind, _, start, address, _, length = struct.unpack_from("<IIQQQQ", image, at)
        if kind == 1:
            yield address, length, start


def functions(system_map):
    """Address and size of each: it ends where the next symbol begins."""
    symbols = [line.split() for line in system_map]
    symbols = sorted((int(address, 16), name) for address, _, name in symbols)
    for (address, name), (end, _) in zip(symbols, symbols[1:]):
        if name in FUNCTIONS and end > address:
            yield address, end - address


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: dcbf.py VMLINUX OUT")
    with open(sys.argv[1], "rb") as f:
        image = bytearray(f.read())
    with open(os.path.dirname(sys.argv[1]) + "/System.map", encoding="ascii") as f:
        ranges = list(functions(f))
    changed = 0
    for address, size in ranges:
        start = next(at + address - a for a, length, at in segments(image) if a <= address < a + length)
        for at in range(start, start + size, 4):
            word, = struct.unpack_from("<I", image, at)
            if word & 0xffe007ff in FLUSHES:
                struct.pack_into("<I", image, at, word & ~FIELD)
                changed += 1
    if not changed:
        sys.exit(f"hmm-dax: {sys.argv[1]}: no flush of persistent memory found in it")
    with open(sys.argv[2], "wb") as f:
        f.write(image)


if __name__ == "__main__":
    main()
