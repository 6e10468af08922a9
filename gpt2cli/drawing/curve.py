"""The losses of `gpt2 finetune` as a picture."""

from collections.abc import Iterator, Sequence
from html import escape

from gpt2cli.drawing.cells import seen
from gpt2cli.drawing.colours import COLOURS, DARK, LIGHT
from gpt2cli.drawing.svg import FONT

Points = Sequence[tuple[float, float]]  # step and loss

_WIDE, _HIGH = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 700, 60, 340
_INKS = ("quiet", "accent")


def picture(title: str, series: Sequence[tuple[str, Points]]) -> str:
    """An SVG with a line for each named series, at most two, over the steps. Loads nothing; by day or by night."""
    points = [point for _, found in series for point in found]
    right = max(x for x, _ in points) or 1
    low, high = min(y for _, y in points), max(y for _, y in points)
    margin = (high - low) * 0.05 or 0.5
    low, high = low - margin, high + margin

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            round(_LEFT + (_RIGHT - _LEFT) * x / right, 1),
            round(_BOTTOM - (_BOTTOM - _TOP) * (y - low) / (high - low), 1),
        )

    light, dark = (_style(shade) for shade in (LIGHT, DARK))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}" width="{_WIDE}" height="{_HIGH}"'
        f' role="img" font-family="{FONT}" font-size="13">',
        f"<title>{escape(seen(title))}</title>",
        f"<style>{light}@media(prefers-color-scheme:dark){{{dark}}}</style>",
        f'<rect class="ground" width="{_WIDE}" height="{_HIGH}" rx="8"/>',
        f'<text class="ink" x="{_LEFT}" y="26" font-weight="bold">{escape(seen(title))}</text>',
    ]
    for part in range(5):
        y = low + (high - low) * part / 4
        _, place = at(0, y)
        parts.append(f'<path class="grid" d="M{_LEFT} {place}H{_RIGHT}"/>')
        parts.append(f'<text class="quiet" x="{_LEFT - 8}" y="{place + 4}" text-anchor="end">{y:.2f}</text>')
        x = right * part / 4
        parts.append(f'<text class="quiet" x="{at(x, low)[0]}" y="{_BOTTOM + 22}" text-anchor="middle">{x:,.0f}</text>')
    parts += _lines(series, at)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _lines(series: Sequence[tuple[str, Points]], at: object) -> Iterator[str]:
    assert callable(at)
    for number, (ink, (name, found)) in enumerate(zip(_INKS, series, strict=False)):
        places = " ".join(f"{x},{y}" for x, y in (at(*point) for point in found))
        yield f'<polyline class="{ink}-line" points="{places}"/>'
        yield f'<text class="{ink}" x="{_LEFT + 110 * number}" y="46">{escape(seen(name))}</text>'


def _style(shade: int) -> str:
    fills = "".join(f".{name}{{fill:{COLOURS[name][shade]}}}" for name in ("ground", "ink", "quiet", "accent"))
    lines = "".join(f".{name}-line{{fill:none;stroke:{COLOURS[name][shade]};stroke-width:2}}" for name in _INKS)
    return f"{fills}{lines}.grid{{stroke:{COLOURS['line'][shade]}}}"
