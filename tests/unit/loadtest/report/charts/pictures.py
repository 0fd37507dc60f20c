"""The words in a chart, of which a test can be sure."""

import re

from loadtest.report.charts.canvas import WIDE, Chart, size_of, svg


def words(chart: Chart) -> list[str]:
    """Every text of the wide drawing."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg(chart, size_of(chart, WIDE)))
