"""Reports of one run and comparisons of several."""
