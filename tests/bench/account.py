#!/usr/bin/env python3
"""account.py DIR CASES: what one request for address space costs, instruction by instruction.

DIR holds what the machine left (kallsyms, and CASE.symbols with the addresses of BPF programs) and `samples` of steps.py;
CASES is how many samples each case has and the cases' names in order. Prints a table and writes DIR/account.json.

Counted is what the kernel executes between the call of security_vm_enough_memory_mm() and the return to its caller: the
only place where anything of ours is attached. The rest of a round differs for reasons of the kernel's own: a cgroup's place
among the slots of a CPU's stock of slab bytes alone makes steps of 84 instructions, or a slab is refilled.
"""
import bisect
import collections
import json
import statistics
import sys

HOOK = "security_vm_enough_memory_mm"
# Nothing governs who is measured here, and what others use is to cost it hardly anything.
BYSTANDERS = ("ungoverned", "all-six-elsewhere")
MODULE_LIMIT = 0x20000  # bytes; farther from the symbol before it, an address belongs to none


class Symbols:
    def __init__(self, *files: str) -> None:
        found = {}
        for file in files:
            with open(file, encoding="utf-8") as lines:
                for line in lines:
                    fields = line.split()
                    if fields[1] in "tTwW":
                        found[int(fields[0], 16)] = fields[2]
        self.sorted = sorted(found.items())
        self.starts = [start for start, _ in self.sorted]
        self.entry = next(start for start, name in self.sorted if name == HOOK)

    def name(self, at: int) -> str:
        index = bisect.bisect_right(self.starts, at) - 1
        if index < 0 or at - self.starts[index] > MODULE_LIMIT:
            return "?"
        return self.sorted[index][1]


def readable(name: str) -> str:
    """bpf_prog_0288af18988652dc_growth__0 and bpf_trampoline_6442557513 without their numbers."""
    if name.startswith("bpf_prog_"):
        return "program " + name.split("_", 3)[3]
    return "trampoline" if name.startswith("bpf_trampoline_") else name


def call(steps: list[int], symbols: Symbols) -> collections.Counter:
    """Instructions by function, from the hook's first to the last before its caller goes on."""
    start = steps.index(symbols.entry)
    caller = symbols.name(steps[start - 1])
    count: collections.Counter = collections.Counter()
    for at in steps[start:]:
        name = symbols.name(at)
        if name == caller:
            return count
        count[readable(name)] += 1
    raise SystemExit("account.py: a round ends within its request")


def main(directory: str, each: int, cases: list[str]) -> None:
    with open(f"{directory}/samples", encoding="utf-8") as lines:
        samples = [[int(step, 16) for step in line.split()] for line in lines]
    if len(samples) != each * len(cases):
        raise SystemExit(f"account.py: {len(samples)} rounds were followed, {each * len(cases)} are expected")
    rows = []
    for index, case in enumerate(cases):
        symbols = Symbols(f"{directory}/kallsyms", f"{directory}/{case}.symbols")
        mine = samples[index * each : (index + 1) * each]
        calls = sorted((call(steps, symbols) for steps in mine), key=lambda c: c.total())
        middle = calls[len(calls) // 2]
        rows.append(
            {
                "case": case,
                "round": {"min": min(map(len, mine)), "median": statistics.median(map(len, mine))},
                "call": {"min": calls[0].total(), "median": middle.total(), "max": calls[-1].total()},
                "functions": dict(middle.most_common()),
            }
        )
    base = rows[0]
    whole = base["round"]["min"]
    print(f"mmap+munmap without us: {whole} instructions, {base['call']['median']} of them in {HOOK}")
    for row in rows[1:]:
        row["more"] = row["call"]["median"] - base["call"]["median"]
        row["percent"] = round(100 * row["more"] / whole, 2)
        print(f"{row['case']:<20}{row['more']:+6} {row['percent']:+6.2f} %")
        for name, count in row["functions"].items():
            more = count - base["functions"].get(name, 0)
            if more:
                print(f"{'':<20}{more:+6}          {name}")
    for row in rows:
        if row["case"] in BYSTANDERS:
            word = "holds" if row["percent"] <= 2 else "DOES NOT HOLD"
            print(f"{word}: {row['case']}, mmap+munmap: {row['percent']:+.2f} % (at most +2 %)")
    with open(f"{directory}/account.json", "w", encoding="utf-8") as out:
        json.dump({"kernel": "7.3", "unit": "instructions", "rows": rows}, out, indent=1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
