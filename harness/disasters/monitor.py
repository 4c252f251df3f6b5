#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""monitor.py SOCKET: copy standard input to standard output, and send what a guest writes
there for QEMU's monitor.

A line "@monitor COMMAND" is sent to the monitor on that Unix socket, and what it answers is
printed as comments of TAP."""
import re
import socket
import sys

PROMPT = b"(qemu) "


class Monitor:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.answer()

    def answer(self):
        got = b""
        while not got.endswith(PROMPT):
            more = self.socket.recv(4096)
            if not more:
                raise ConnectionError("the monitor is closed")
            got += more
        # It echoes the command letter by letter, with control characters.
        lines = re.sub(rb"\x1b\[[0-9]*[A-Z]", b"", got).decode(errors="replace").split("\n")
        return [line.strip() for line in lines[1:-1] if line.strip()]

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\n")
        return self.answer()


def main(path):
    monitor = None
    for line in sys.stdin:
        if not line.startswith("@monitor "):
            print(line, end="", flush=True)
            continue
        command = line.split(" ", 1)[1].strip()
        try:
            monitor = monitor or Monitor(path)
            print("# monitor:", command, flush=True)
            for said in monitor.ask(command):
                print("#  ", said, flush=True)
        except OSError as e:
            print("not ok the monitor does not take '%s': %s" % (command, e), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: monitor.py SOCKET")
    main(sys.argv[1])
