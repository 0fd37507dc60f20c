"""Locust's web UI, with what matters for tokens."""

from loadtest.web.page import install

__all__ = ["install"]
