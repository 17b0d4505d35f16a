"""The plot of docs/scale.md, made of the table that stands there: ``python -m benchmarks.scale_plot`` writes it."""

from __future__ import annotations

import math
import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
PLOT = PAGE.with_name("scale.svg")
ROW = re.compile(r"^\| ([\d,]+) at rest \| [\d.]+ \| ([\d.]+) s \| [\d.]+ s \| ([\d.]+) MiB \|", re.MULTILINE)
PANELS = (("CPU seconds of one listing", 1), ("RSS over the base, MiB", 2))
WIDTH, HEIGHT, LEFT, TOP = 340, 220, 60, 40  # pixels, of one panel


def plot(page: str) -> str:
    """Both figures against the number of objects, all axes logarithmic, so that what is linear has a slope of one."""
    rows = [tuple(float(cell.replace(",", "")) for cell in row) for row in ROW.findall(page)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * (WIDTH + LEFT) + 20}" height="{TOP + HEIGHT + 30}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, (title, column) in enumerate(PANELS):
        points = [(row[0], row[column]) for row in rows]
        parts += _panel(title, points, LEFT + number * (WIDTH + LEFT))
    return "\n".join([*parts, "</svg>", ""])


def _panel(title: str, points: list[tuple[float, float]], left: float) -> list[str]:
    x_from, x_to = _decades([x for x, _ in points])
    y_from, y_to = _decades([y for _, y in points])
    bottom = TOP + HEIGHT

    def across(x: float) -> float:
        return left + (math.log10(x) - x_from) / (x_to - x_from) * WIDTH

    def up(y: float) -> float:
        return bottom - (math.log10(y) - y_from) / (y_to - y_from) * HEIGHT

    parts = [f'<text x="{left}" y="{TOP - 14}">{title}</text>']
    for decade in range(x_from, x_to + 1):
        x = across(10.0**decade)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{10**decade:,}</text>')
    for decade in range(y_from, y_to + 1):
        y = up(10.0**decade)
        parts.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#1565c0" stroke-width="2"/>')
    parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="#1565c0"/>' for x, y in points]
    return parts


def _decades(values: list[float]) -> tuple[int, int]:
    """Powers of ten below and above all of them."""
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


if __name__ == "__main__":
    PLOT.write_text(plot(PAGE.read_text()))
