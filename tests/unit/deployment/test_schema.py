"""The committed schema and reference page are those that the code gives, and editors can use the schema."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from vllmstack.deployment.reference import reference_text
from vllmstack.deployment.schema import schema_text

ROOT = Path(__file__).resolve().parents[3]
SCHEMA_FILE = ROOT / "schema" / "deployment.schema.json"
DEPLOYMENTS = sorted((ROOT / "deployments").glob("*.yaml"))
MEND = "run `python scripts/deployment_reference.py`"


def test_the_committed_schema_is_the_models() -> None:
    assert SCHEMA_FILE.read_text("utf-8") == schema_text(), MEND


def test_the_committed_reference_is_the_models() -> None:
    page = ROOT / "docs" / "reference" / "deployment.md"

    assert page.read_text("utf-8") == reference_text(ROOT / "deployments"), MEND


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("path", DEPLOYMENTS, ids=lambda path: path.stem)
def test_shipped_deployments_are_valid_by_it(path: Path) -> None:
    Draft202012Validator(json.loads(schema_text())).validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        {"replica": 2},
        {"replicas": 0},
        {"replicas": "2"},
        {"gpus": [[-1]]},
        {"sampling": "creativ"},
        {"serve": {"max_modle_len": 1}},
        {"serve": {"dtype": "fp16"}},
        {"serve": {"enforce_eager": "yes"}},
        {"serve": {"served_model_name": "x"}},
        {"environment": {"A": 1}},
    ],
    ids=str,
)
def test_editors_see_mistakes_with_it(change: dict[str, object]) -> None:
    validator = Draft202012Validator(json.loads(schema_text()))
    model: dict[str, object] = {"name": "a", "source": {"hub": "b/c"}}

    assert validator.is_valid({"name": "x", "models": [model]})
    assert not validator.is_valid({"name": "x", "models": [model | change]})


def test_options_are_allowed_with_dashes_too() -> None:
    models = [{"name": "a", "source": {"hub": "b/c"}, "serve": {"max-model-len": 8192}}]

    assert Draft202012Validator(json.loads(schema_text())).is_valid({"name": "x", "models": models})


def test_every_key_is_described() -> None:
    definitions = json.loads(schema_text())["$defs"]
    undescribed = [
        f"{section}/{key}"
        for section, definition in definitions.items()
        for key, schema in definition.get("properties", {}).items()
        if not schema.get("description")
    ]

    assert undescribed == []
