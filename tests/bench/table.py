#!/usr/bin/env python3
"""table.py LINES STEM: from the guest's lines to a table on stdout, STEM.json and STEM.svg."""
import json
import sys

from figures import plot

OPERATIONS = ["mmap_munmap", "brk", "page_fault", "fork_exit", "charged_page", "reclaimed_page"]
# What is promised of a case: the operations, and by how many percent they may cost more. What mmap costs is followed (account.py).
BOUNDS = [
    ("all-six", ["page_fault"], 1.0),
    ("all-six-elsewhere", ["page_fault", "charged_page", "reclaimed_page"], 2.0),
    ("ungoverned", ["page_fault", "charged_page", "reclaimed_page"], 2.0),
]


def main(lines_path: str, stem: str) -> int:
    with open(lines_path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.startswith("{")]
    rows = [row for row in rows if row["case"] != "first"]
    if not rows or rows[0]["case"] != "base":
        print("bench: the test machine returned no figures", file=sys.stderr)
        return 1
    bases = {row["process"]: row["costs"] for row in rows if row["case"] == "base"}
    print(f"{'instructions':<20}" + "".join(f"{name:>22}" for name in OPERATIONS))
    print(f"{'base':<20}" + "".join(f"{bases['bench-free'][name]:>22}" for name in OPERATIONS))
    more: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["case"] == "base":
            continue
        base, cells = bases[row["process"]], ""
        more[row["case"]] = {name: 100 * (row["costs"][name] - base[name]) / base[name] for name in OPERATIONS}
        for name in OPERATIONS:
            text = f"{row['costs'][name]:>9} {row['costs'][name] - base[name]:+6} {more[row['case']][name]:+.1f}%"
            cells += text.rjust(22)
        print(f"{row['case']:<20}{cells}")
    print()
    for case, names, bound in BOUNDS:
        for name in names:
            holds = more.get(case, {}).get(name, bound + 1) <= bound
            print(f"{'holds' if holds else 'DOES NOT HOLD'}: {case}, {name}: {more[case][name]:+.2f} % (at most {bound:+g} %)")
    with open(f"{stem}.json", "w", encoding="utf-8") as out:
        json.dump({"kernel": "7.3", "unit": "instructions", "rows": rows}, out, indent=1)
    bars = [
        {"measure": name, "unit": "% more instructions", "case": case} | {key: max(costs[name], 0) for key in ("median", "least", "most")}
        for name in OPERATIONS
        for case, costs in more.items()
    ]
    with open(f"{stem}.svg", "w", encoding="utf-8") as out:
        out.write(plot(bars))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
