"""One look for all charts, in files that stand alone and in pages."""

import re
from itertools import pairwise

from loadtest.report.charts.canvas import NARROW, WIDE, Chart, Drawing, Sheet, drawn, label_ends, spread, value_axis


def line(name: str = "line") -> Chart:
    def draw(sheet: Sheet) -> None:
        sheet.axes.plot([1, 2, 3], [1, 2, 3])
        value_axis(sheet, 1, 3)
        label_ends(sheet, [(3.0, "the end", "#000000"), (3.0, "the same place", "#000000")])

    return Chart(name=name, title="A title", subtitle="ms", caption="How to read it.", draw=draw)


def drawing() -> Drawing:
    return drawn(line())


def test_text_stays_text_and_the_page_asks_nobody_for_anything() -> None:
    found = drawing()

    assert ">A title</text>" in found.wide
    assert ">the end</text>" in found.narrow
    assert not re.search(r"https?:|xmlns|<\?xml|<metadata|<script", found.wide + found.narrow)
    assert f'viewBox="0 0 {WIDE[0]} {WIDE[1]}"' in found.wide
    assert f'viewBox="0 0 {NARROW[0]} {NARROW[1]}"' in found.narrow


def test_names_are_no_markup_in_a_drawing() -> None:
    def draw(sheet: Sheet) -> None:
        label_ends(sheet, [(0.5, "<script>$x^2$</script>", "#000000")])

    found = drawn(Chart(name="names", title="a $ and a $", subtitle="", caption="", draw=draw))

    assert ">a $ and a $</text>" in found.wide
    assert "&lt;script&gt;$x^2$&lt;/script&gt;" in found.wide
    assert "<script" not in found.wide + found.file


def test_a_file_of_its_own_is_a_whole_svg_and_a_png() -> None:
    found = drawing()

    assert found.file.startswith("<?xml")
    assert 'xmlns="http://www.w3.org/2000/svg"' in found.file
    assert found.png().startswith(b"\x89PNG")


def test_the_same_chart_is_drawn_the_same_and_ids_of_two_differ() -> None:
    def ids(svg: str) -> set[str]:
        return set(re.findall(r'clipPath id="([^"]+)"', svg))

    one, again, other = drawing(), drawing(), drawn(line("other"))
    assert one.wide == again.wide
    assert ids(one.wide)
    assert not ids(one.wide) & (ids(one.narrow) | ids(other.wide))


def test_labels_that_would_overlap_move_apart_as_little_as_it_takes() -> None:
    assert spread([0.2, 0.8], 0.1) == [0.2, 0.8]
    assert spread([0.5, 0.5], 0.1) == [0.45, 0.55]
    assert spread([1.0, 1.0, 1.0], 0.1) == [0.8, 0.9, 1.0]


def test_labels_are_never_closer_than_their_height_and_stay_in_order() -> None:
    found = spread([0.0, 0.01, 0.3, 0.31, 0.32, 0.99], 0.08)

    assert all(after - before >= 0.08 - 1e-9 for before, after in pairwise(found))
    assert found[0] >= 0
    assert found[-1] <= 1
