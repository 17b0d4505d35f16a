"""Memory, open files and threads of a soak's services over time, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.soak.service.watched import lives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.soak.service.watched import Sample

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 860, 130, 70, 46, 44  # pixels; the height is that of one panel
_PANELS = (("resident", "resident size, MiB", 2**20), ("descriptors", "open files", 1), ("threads", "threads", 1))
_COLOURS = ("#1565c0", "#c2410c")
_POINTS = 1000


def plot(services: Sequence[tuple[str, Sequence[Sample]]]) -> str:
    """Three panels, one above the other; each process of a service is a line of its own."""
    moments = [sample.moment for _, samples in services for sample in samples]
    began, ended = min(moments), max(moments)
    height = _TOP + len(_PANELS) * (_HEIGHT + _GAP) + 10
    width = _LEFT + _WIDTH + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, (name, _) in enumerate(services):
        parts.append(f'<text x="{_LEFT + 240 * number}" y="18" fill="{_COLOURS[number]}">{name}</text>')
    for number, (field, title, scale) in enumerate(_PANELS):
        top = _TOP + number * (_HEIGHT + _GAP)
        parts += _panel(services, field, title, scale, top, (began, max(ended, began + 1.0)))
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    services: Sequence[tuple[str, Sequence[Sample]]],
    field: str,
    title: str,
    scale: int,
    top: float,
    span: tuple[float, float],
) -> list[str]:
    most = 1.1 * max(getattr(sample, field) / scale for _, samples in services for sample in samples)
    bottom, seconds = top + _HEIGHT, span[1] - span[0]
    parts = [f'<text x="{_LEFT}" y="{top - 6:.0f}">{title}</text>']
    for share in (0.0, 0.5, 1.0):
        y, x = bottom - share * _HEIGHT, _LEFT + share * _WIDTH
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share * most:.0f}</text>')
        parts.append(
            f'<text x="{x:.0f}" y="{bottom + 16:.0f}" text-anchor="middle">{share * seconds / 60:.1f} min</text>'
        )
    for (_, samples), colour in zip(services, _COLOURS, strict=False):
        for life in lives(samples):
            points = " ".join(
                f"{_LEFT + (sample.moment - span[0]) / seconds * _WIDTH:.1f},"
                f"{bottom - getattr(sample, field) / scale / most * _HEIGHT:.1f}"
                for sample in life[:: max(1, len(life) // _POINTS)]
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
    return parts
