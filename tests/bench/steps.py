#!/usr/bin/env python3
"""steps.py SOCKET PROGRAM SAMPLES: follows rounds of tests/programs/mmap_loop.c instruction by instruction.

SOCKET is QEMU's gdb stub, PROGRAM the static executable, SAMPLES the file to write: a line for each round, the
addresses of its instructions in hexadecimal. Ends when the machine does. Interrupts and timers stand still during a
step (QEMU's default), so a round is never interrupted.
"""
import socket
import subprocess
import sys
import time

RIP = 16  # of the registers of the 'g' packet, each 8 bytes


class Stub:
    """The gdb remote serial protocol, as much of it as is needed."""

    def __init__(self, path: str) -> None:
        self.buffer = b""
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                return
            except OSError:
                time.sleep(0.2)

    def ask(self, packet: str) -> str:
        data = packet.encode()
        self.socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
        while True:
            start = self.buffer.find(b"$")
            end = self.buffer.find(b"#", start + 1)
            if start >= 0 and end >= 0 and len(self.buffer) >= end + 3:
                answer = self.buffer[start + 1 : end].decode("latin-1")
                self.buffer = self.buffer[end + 3 :]
                self.socket.sendall(b"+")
                return answer
            more = self.socket.recv(65536)
            if not more:
                raise EOFError
            self.buffer += more

    def pc(self) -> int:
        registers = bytes.fromhex(self.ask("g")[: (RIP + 1) * 16])
        return int.from_bytes(registers[RIP * 8 :], "little")


def address(program: str, symbol: str) -> int:
    for line in subprocess.run(["nm", program], check=True, capture_output=True, text=True).stdout.splitlines():
        value, _, name = line.split()[-3:] if len(line.split()) == 3 else ("0", "", "")
        if name == symbol:
            return int(value, 16)
    raise SystemExit(f"steps.py: {program} has no symbol {symbol}")


def main(path: str, program: str, samples: str) -> None:
    begin, end = address(program, "round_begins"), address(program, "round_ends")
    stub = Stub(path)
    with open(samples, "w", encoding="utf-8") as out:
        try:
            stub.ask("?")
            stub.ask(f"Z1,{begin:x},1")
            while True:
                stub.ask("c")
                at = stub.pc()
                if at != begin:
                    continue
                stub.ask(f"z1,{begin:x},1")
                steps = []
                while at != end:
                    steps.append(at)
                    stub.ask("s")
                    at = stub.pc()
                print(" ".join(f"{step:x}" for step in steps), file=out, flush=True)
                stub.ask(f"Z1,{begin:x},1")
        except (EOFError, ConnectionError):
            return


if __name__ == "__main__":
    main(*sys.argv[1:4])
