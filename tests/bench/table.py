#!/usr/bin/env python3
"""table.py LINES JSON: from the guest's lines to a table on stdout and a JSON document."""
import json
import sys

OPERATIONS = ["mmap_munmap", "brk", "page_fault", "fork_exit"]


def main(lines_path: str, json_path: str) -> int:
    with open(lines_path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.startswith("{")]
    if not rows or rows[0]["case"] != "base":
        print("bench: the test machine returned no figures", file=sys.stderr)
        return 1
    bases = {row["process"]: row["costs"] for row in rows if row["case"] == "base"}
    print(f"{'instructions':<20}" + "".join(f"{name:>22}" for name in OPERATIONS))
    print(f"{'base':<20}" + "".join(f"{bases['bench-free'][name]:>22}" for name in OPERATIONS))
    for row in rows:
        if row["case"] == "base":
            continue
        base, cells = bases[row["process"]], ""
        for name in OPERATIONS:
            more = row["costs"][name] - base[name]
            cells += f"{row['costs'][name]:>9} {more:+6} {100 * more / base[name]:+.1f}%".rjust(22)
        print(f"{row['case']:<20}{cells}")
    with open(json_path, "w", encoding="utf-8") as out:
        json.dump({"kernel": "7.3", "unit": "instructions", "rows": rows}, out, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
