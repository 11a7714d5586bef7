#!/usr/bin/env python3
"""compare.py LINES JSON SVG: from the guest's lines to a table on stdout, a JSON document and a plot."""
import json
import math
import statistics
import sys
from html import escape


def plot(rows: list[dict]) -> str:
    """A bar from least to most on a logarithmic axis, with the median marked."""
    left, width, height = 330, 460, 28
    decades = 5  # 10 ms to 1000 s

    def place(seconds: float) -> float:
        return left + width * (math.log10(max(seconds, 0.01)) + 2) / decades

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{height * len(rows) + 60}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    bottom = 20 + height * len(rows)
    for decade in range(decades + 1):
        x = left + width * decade / decades
        parts.append(f'<line x1="{x}" y1="15" x2="{x}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{10.0 ** (decade - 2):g} s</text>')
    for number, row in enumerate(rows):
        y = 20 + height * number
        parts.append(f'<text x="{left - 10}" y="{y + 17}" text-anchor="end">{escape(row["who"])}</text>')
        least, most, middle = place(row["least"]), place(row["most"]), place(row["median"])
        parts.append(f'<rect x="{least}" y="{y + 6}" width="{max(most - least, 2)}" height="14" fill="#7aa6da"/>')
        parts.append(f'<line x1="{middle}" y1="{y + 2}" x2="{middle}" y2="{y + 24}" stroke="black" stroke-width="2"/>')
    parts.append(f'<text x="{left}" y="{bottom + 36}">from the onset of the stall to the end; emulated machine</text></svg>')
    return "\n".join(parts) + "\n"


def main(lines_path: str, json_path: str, svg_path: str) -> int:
    with open(lines_path, encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines if line.startswith("{")]
    times: dict[str, list] = {}
    for row in found:
        if "us" in row:
            times.setdefault(row["who"], []).append(row["us"])
    rows = []
    for who, all_of_them in times.items():
        seconds = [us / 1e6 for us in all_of_them if us is not None]
        if seconds:
            rows.append(
                {"who": who, "n": len(all_of_them), "ended": len(seconds), "median": statistics.median(seconds),
                 "least": min(seconds), "most": max(seconds)}
            )
    if len(rows) < 4:
        print(f"bench: the test machine returned {len(rows)} rows instead of 4", file=sys.stderr)
        return 1
    print("| | n | median | least to most |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['who']} | {row['ended']} of {row['n']} | {row['median']:.2f} s | {row['least']:.2f} to {row['most']:.2f} s |")
    ours = rows[0]["median"]
    theirs = min(row["median"] for row in rows if row["who"].startswith("systemd-oomd"))
    print(f"\nThe fastest systemd-oomd takes {theirs / ours:.1f} times as long as {rows[0]['who']}.")
    for row in found:
        if row["who"] == "healthy":
            print(f"{row['seconds']} s of a busy load: {row['kills']} kills, and it {'lives' if row['alive'] else 'is dead'}.")
    with open(json_path, "w", encoding="utf-8") as out:
        json.dump({"rows": rows, "all": found}, out, indent=1)
    with open(svg_path, "w", encoding="utf-8") as out:
        out.write(plot(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
