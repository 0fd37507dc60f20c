"""For all tests."""

import signal


def pytest_configure() -> None:
    """What a shell runs in the background ignores Ctrl-C, and so would all that the tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
