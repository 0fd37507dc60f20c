"""Writes what is made from the deployment's model: schema/deployment.schema.json and docs/reference/deployment.md.

Run it (``python scripts/deployment_reference.py``) after a change to vllmstack/deployment/model.py, presets.py,
serve_checks.py, vllm_options.json or deployments/cpu-smoke.yaml; tests/unit/deployment/test_schema.py compares.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from vllmstack.deployment.reference import reference_text  # noqa: E402
from vllmstack.deployment.schema import schema_text  # noqa: E402


def main() -> None:
    """Writes both files."""
    for path, text in (
        (ROOT / "schema" / "deployment.schema.json", schema_text()),
        (ROOT / "docs" / "reference" / "deployment.md", reference_text(ROOT / "deployments")),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
