"""A curve in plain characters, for the terminal."""

from collections.abc import Sequence

Points = Sequence[tuple[float, float]]  # x and y


def curves(series: Sequence[tuple[str, Points]], *, columns: int, rows: int = 10) -> list[str]:
    """Lines of text with the points of each series, under its mark; the later lie above. At most `columns` wide."""
    points = [point for _, found in series for point in found]
    low, high = min(y for _, y in points), max(y for _, y in points)
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    labels = [f"{high - (high - low) * row / (rows - 1):.2f}" for row in range(rows)]
    margin = max(map(len, labels))
    width = max(10, min(columns, 100) - margin - 2)
    grid = [[" "] * width for _ in range(rows)]
    for mark, found in series:
        for x, y in found:
            column = round((x - left) / ((right - left) or 1) * (width - 1))
            row = round((high - y) / ((high - low) or 1) * (rows - 1))
            grid[row][column] = mark
    shown = [label.rjust(margin) if row % 3 == 0 else " " * margin for row, label in enumerate(labels)]
    lines = [f"{label} |{''.join(cells)}".rstrip() for label, cells in zip(shown, grid, strict=True)]
    first, last = f"{left:,.0f}", f"{right:,.0f}"
    scale = f"{first}{last.rjust(width - len(first))}"
    return [*lines, f"{' ' * margin} +{'-' * width}", f"{' ' * margin}  {scale}"]
