"""Load tests that can be trusted: Locust runs them, a token clock measures them, targets judge them."""
