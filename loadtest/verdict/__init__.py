"""Whether targets are met: statistics, limits, profiles, capacity. Pure arithmetic."""
