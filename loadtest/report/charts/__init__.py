"""The report's charts: matplotlib without a display, as SVG for the page and PNG for Markdown."""
