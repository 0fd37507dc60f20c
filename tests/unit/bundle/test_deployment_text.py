"""Other values in a deployment file: comments and order stay."""

from pathlib import Path

import pytest
import yaml

from vllmstack.bundle.deployment_text import Place, with_values

ROOT = Path(__file__).parents[3]

TEXT = """\
# What it is for.
name: smoke
models:
  - name: smoke # the first
    source:
      hub: a/b # public
      revision: main
    # Two of them.
    serve: {lora-modules: ["x=y"], enable_lora: true}
gateway:
  port: 8000 # as ever
# the end
"""


def test_a_value_is_replaced_and_comments_around_it_stay() -> None:
    edited = with_values(TEXT, {("models", 0, "source"): {"directory": "models/smoke"}})

    assert edited == TEXT.replace(
        "source:\n      hub: a/b # public\n      revision: main\n", 'source: {"directory": "models/smoke"}\n'
    )


def test_a_key_is_found_with_dashes_too() -> None:
    edited = with_values(TEXT, {("models", 0, "serve", "lora_modules"): [{"name": "x", "path": "adapters/1"}]})

    assert '    serve: {lora-modules: [{"name": "x", "path": "adapters/1"}], enable_lora: true}\n' in edited


def test_what_is_not_there_is_added_at_the_end_of_its_section() -> None:
    edited = with_values(TEXT, {("images",): {"gateway": "g:1"}, ("gateway", "tls"): {"key": "k"}})

    assert edited == TEXT.replace(
        "  port: 8000 # as ever\n",
        '  port: 8000 # as ever\n  tls: {"key": "k"}\nimages: {"gateway": "g:1"}\n',
    )


def test_a_section_that_is_not_there_is_made() -> None:
    edited = with_values(TEXT, {("monitoring", "grafana"): False})

    assert 'monitoring: {"grafana": false}\n' in edited


def test_a_section_in_braces_is_added_to() -> None:
    edited = with_values("name: a\nmonitoring: {scrape_seconds: 5}\nimages: {}", {("monitoring", "grafana"): False})

    assert edited == "name: a\nmonitoring: {grafana: false, scrape_seconds: 5}\nimages: {}"
    assert with_values("{name: a}", {("images",): {}, ("gateway", "port"): 1}).startswith("{")


SHARED = """\
models:
  - &first
    name: one
    source: &where {hub: a/b}
  - <<: *first
    name: two
  - name: three
    source: *where
"""


def test_what_shares_its_text_with_another_place_is_still_right() -> None:
    values: dict[Place, object] = {("models", 1, "source"): {"directory": "models/two"}}

    edited = yaml.safe_load(with_values(SHARED, values))

    assert [model["source"] for model in edited["models"]] == [
        {"hub": "a/b"}, {"directory": "models/two"}, {"hub": "a/b"},
    ]  # fmt: skip


def test_an_anchor_that_others_need_is_not_lost() -> None:
    edited = yaml.safe_load(with_values(SHARED, {("models", 0, "source"): {"directory": "models/one"}}))

    assert edited["models"][0]["source"] == {"directory": "models/one"}
    assert edited["models"][2]["source"] == {"hub": "a/b"}


@pytest.mark.parametrize("file", sorted((ROOT / "deployments").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_deployment_keeps_its_comments(file: Path) -> None:
    text = file.read_text()

    edited = with_values(
        text,
        {
            ("models", 0, "source"): {"directory": "models/x"},
            ("images",): {"gateway": "g:1"},
            ("monitoring", "grafana"): False,
        },
    )

    data = yaml.safe_load(edited)
    assert data["models"][0]["source"] == {"directory": "models/x"}
    assert data["images"] == {"gateway": "g:1"}
    assert data["monitoring"]["grafana"] is False
    kept = [line for line in text.splitlines() if line.strip().startswith("#")]
    lost = [line for line in kept if line not in edited]
    inside_source = yaml.safe_load(text)["models"][0]["source"]
    assert len(lost) <= len(inside_source), lost
    assert data["models"][0]["name"] == yaml.safe_load(text)["models"][0]["name"]
