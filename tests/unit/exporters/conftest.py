"""The exporters' programs, which are modules of their image and of no package here."""

import sys
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "docker" / "exporters"
sys.path.insert(0, str(FOLDER))
