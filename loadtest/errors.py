"""What keeps a load test from starting or from being believed."""

from vllmstack.errors import VllmstackError

EXIT_MET = 0
EXIT_MISSED = 1
EXIT_INVALID = 2


class LoadTestError(VllmstackError):
    """An unknown scenario, a wrong field, no tokenizer, a server that is down, a key that is refused: exit 2."""

    exit_code = EXIT_INVALID
