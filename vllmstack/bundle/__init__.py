"""A deployment with all it needs in one archive: what goes in, under which names, and how it is written and read."""
