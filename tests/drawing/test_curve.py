"""The curve of a run, as a picture and in the terminal."""

import xml.etree.ElementTree as ElementTree

from gpt2cli.console.curves import curves
from gpt2cli.drawing import curve

TRAIN, HELD = [(n, 3 / n) for n in range(1, 6)], [(n, 3.5 / (n + 1)) for n in range(6)]


def test_the_picture_has_a_line_for_each_series_and_is_whole_whatever_the_name():
    picture = curve.picture("<b> & \x07: loss", [("train", TRAIN), ("validation", HELD)])
    root = ElementTree.fromstring(picture)
    lines = [one for one in root.iter() if one.tag.endswith("polyline")]
    assert [len(one.get("points").split()) for one in lines] == [5, 6]
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_a_curve_without_a_slope_is_drawn():
    flat = [(0, 2.0), (1, 2.0)]
    ElementTree.fromstring(curve.picture("flat", [("train", flat)]))
    assert any("*" in line for line in curves([("*", flat)], columns=40))


def test_the_curve_of_the_terminal_falls_and_fits():
    for columns in (20, 80, 200):
        lines = curves([("*", HELD)], columns=columns)
        assert max(map(len, lines)) <= min(columns, 100)
        places = [(row, line.index("*")) for row, line in enumerate(lines) if "*" in line]
        assert places == sorted(places, key=lambda place: place[1])
        assert lines[0].lstrip().startswith("3.50 |*")
        assert lines[-1].split() == ["0", "5"]
