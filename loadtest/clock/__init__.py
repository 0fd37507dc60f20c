"""What a client sees of one stream, and how many observations become percentiles."""
