#!/usr/bin/env python3
"""figures.py STEM: from STEM.lines to a table on stdout, STEM.json and STEM.svg. Lines that are no JSON object are skipped.

A figure is {"case", "measure", "unit", "value"}, where the value is null for what never came; a claim compares the medians of two
cases of a measure: {"claim", "measure", "case", "least" or "most", "other"}. Exit status 1 when there is none of them.
"""
import json
import math
import statistics
import sys
from html import escape

LEFT, WIDTH, HEIGHT = 360, 440, 26


def medians(lines: list[dict]) -> list[dict]:
    """One row for each case of each measure, in the order in which they came."""
    groups: dict[tuple, list] = {}
    for line in lines:
        if "value" in line:
            groups.setdefault((line["measure"], line["unit"], line["case"]), []).append(line["value"])
    rows = []
    for (measure, unit, case), values in groups.items():
        known = [value for value in values if value is not None]
        row = {"measure": measure, "unit": unit, "case": case, "n": len(values), "known": len(known)}
        if known:
            row |= {"median": statistics.median(known), "least": min(known), "most": max(known)}
        rows.append(row)
    return rows


def judged(claims: list[dict], rows: list[dict]) -> list[dict]:
    """The claims, each with the ratio that was measured and whether it holds."""
    known = {(row["measure"], row["case"]): row.get("median") for row in rows}
    out = []
    for claim in claims:
        a, b = (known.get((claim["measure"], claim[who])) for who in ("case", "other"))
        ratio = a / b if a is not None and b else None
        holds = ratio is not None and claim.get("least", 0) <= ratio <= claim.get("most", math.inf)
        out.append(claim | {"ratio": ratio, "holds": holds})
    return out


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def plot(rows: list[dict]) -> str:
    """For each measure an axis, logarithmic where a linear one would hide the small; bars from least to most, medians marked."""
    parts, y = [], 0
    for measure in dict.fromkeys(row["measure"] for row in rows):
        mine = [row for row in rows if row["measure"] == measure and "median" in row]
        if not mine:
            continue
        most, least = max(row["most"] for row in mine), min(row["least"] for row in mine)
        log = least > 0 and most / least > 30

        def place(value: float, low=least, high=most, log=log) -> float:
            if log:
                return LEFT + WIDTH * math.log(value / low * 1.2) / math.log(high / low * 1.3)
            return LEFT + WIDTH * value / (high * 1.05 or 1)

        scale = ", logarithmic" if log else ""
        parts.append(f'<text x="10" y="{y + 24}" font-weight="bold">{escape(measure)} ({escape(mine[0]["unit"])}{scale})</text>')
        y += 34
        for row in mine:
            left, right, middle = place(row["least"]), place(row["most"]), place(row["median"])
            parts.append(f'<text x="{LEFT - 10}" y="{y + 17}" text-anchor="end">{escape(row["case"])}</text>')
            parts.append(f'<line x1="{LEFT}" y1="{y + 13}" x2="{LEFT + WIDTH}" y2="{y + 13}" stroke="#eee"/>')
            parts.append(f'<rect x="{left:.1f}" y="{y + 6}" width="{max(right - left, 2):.1f}" height="14" fill="#7aa6da"/>')
            parts.append(f'<line x1="{middle:.1f}" y1="{y + 3}" x2="{middle:.1f}" y2="{y + 23}" stroke="black" stroke-width="2"/>')
            parts.append(f'<text x="{max(right, middle) + 8:.1f}" y="{y + 17}" fill="#444">{short(row["median"])}</text>')
            y += HEIGHT
        y += 10
    y += 24
    parts.append(f'<text x="10" y="{y}" fill="#444">Bars: least to most; marks: medians. Emulated machine: only ratios mean anything.</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 110}" height="{y + 16}" '
        'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def main(stem: str) -> int:
    with open(f"{stem}.lines", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.startswith("{")]
    rows = medians(lines)
    if not rows:
        print(f"bench: the test machine returned no figures: {stem}.lines", file=sys.stderr)
        return 1
    claims = judged([line for line in lines if "claim" in line], rows)
    print("| measure | case | n | median | least to most |\n|---|---|---|---|---|")
    for row in rows:
        if "median" in row:
            cells = f"{short(row['median'])} {row['unit']} | {short(row['least'])} to {short(row['most'])}"
        else:
            cells = "never | "
        count = row["n"] if row["known"] == row["n"] else f"{row['known']} of {row['n']}"
        print(f"| {row['measure']} | {row['case']} | {count} | {cells} |")
    print()
    for claim in claims:
        bound = " and ".join(f"at {name} {claim[name]:g}" for name in ("least", "most") if name in claim)
        found = "not measured" if claim["ratio"] is None else f"{claim['ratio']:.3g} times"
        print(f"{'holds' if claim['holds'] else 'DOES NOT HOLD'}: {claim['claim']}: {found} ({bound})")
    with open(f"{stem}.json", "w", encoding="utf-8") as out:
        json.dump({"kernel": "7.3", "rows": rows, "claims": claims, "figures": lines}, out, indent=1)
    with open(f"{stem}.svg", "w", encoding="utf-8") as out:
        out.write(plot(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
