"""``python -m vllmstack``."""

import sys

from vllmstack.cli import main

sys.exit(main())
