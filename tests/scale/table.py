#!/usr/bin/env python3
"""table.py LINES JSON: from the guest's lines to a table on stdout and a JSON document."""
import json
import sys


def main(lines_path: str, json_path: str) -> int:
    with open(lines_path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.startswith("{")]
    reports = [row for row in rows if "unit" in row]
    if len(reports) != 6:
        print(f"scale: the test machine returned {len(reports)} rows instead of 6", file=sys.stderr)
        return 1
    yard = next(row["us"] for row in rows if "yardstick" in row)
    print("| | resident | private | start | attach and detach | idle: turns, processor time |")
    print("|---|---|---|---|---|---|")
    for row in reports:
        attach = row["attach_detach_us"]
        cells = [
            f"{row['unit']}, {row['case']}",
            f"{row['rss_kib'] / 1024:.1f} MiB",
            f"{row['private_kib'] / 1024:.1f} MiB",
            f"{row['start_us'] / 1e6:.1f} s",
            "–" if attach is None else f"{attach / yard:.1f} × SetUnitProperties",
            f"{row['idle_turns']} and {10 * row['idle_ticks']} ms in {row['idle_s']} s",
        ]
        print("| " + " | ".join(cells) + " |")
    for row in rows:
        if "event" in row:
            print(f"{row['count']} cgroups made: {10 * row['daemon_ticks']} ms of memcg-bpfd, {row['mkdir_us'] / 1e3:.0f} ms of mkdir")
    with open(json_path, "w", encoding="utf-8") as out:
        json.dump({"rows": rows}, out, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
