"""Locust's web UI, with what matters for tokens."""
