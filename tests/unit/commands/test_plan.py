"""`vllmstack plan`, as a person and as a script sees it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vllmstack.commands import preparation
from vllmstack.commands.plan import command
from vllmstack.errors import InvalidInput
from vllmstack.planning.inventory import Inventory
from vllmstack.prediction import forecast
from vllmstack.simulation.engine import EngineProfile
from vllmstack.simulation.service import Lengths, Outcome, serve_arrivals

GOOD = """\
name: good
models:
  - name: llama
    source: {hub: meta-llama/Llama-3.1-8B-Instruct}
    replicas: 2
    serve: {max_model_len: 8192}
gpu: {type: L40S}
"""


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one deployment on a machine without GPUs, and a terminal of 80 columns."""
    for name in ("compose.yaml", "docker/images.yaml", "deployments/good.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "deployments" / "good.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(preparation, "see_inventory", lambda: Inventory(memory_bytes=16 << 30, core_ids=(0, 1)))
    return tmp_path


def test_the_plan_shows_placement_memory_and_what_was_assumed() -> None:
    result = CliRunner().invoke(command, ["good"])

    assert result.exit_code == 0
    assert "llama  engine-llama-2  GPU 1" in result.output
    assert "weights      14.96 GiB" in result.output
    assert "sequences of 8,192 tokens at a time" in result.output
    assert "planned for 2 × L40S, which are assumed and not seen here" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_another_gpu_can_be_asked_for() -> None:
    result = CliRunner().invoke(command, ["good", "--gpu", "h100"])

    assert "each H100-80GB, 79.2 GiB" in result.output


def test_a_script_gets_bytes() -> None:
    result = CliRunner().invoke(command, ["good", "--json"])

    document = json.loads(result.stdout)
    memory = document["memory"]["llama"]
    parts = ("weights", "activations", "cuda_graphs", "overhead", "kv_cache", "left_free")
    assert document["assumed_gpu"] == "L40S"
    assert [replica["gpu_ids"] for replica in document["replicas"]] == [[0], [1]]
    assert sum(memory[f"{part}_bytes"] for part in parts) == memory["total_bytes"]
    assert memory["weights_bytes"] == 2 * 8_030_261_248


def test_an_unknown_gpu_is_refused_by_the_option() -> None:
    with pytest.raises(InvalidInput, match="--gpu: Z9 is not in the table of GPUs"):
        CliRunner().invoke(command, ["good", "--gpu", "Z9"], catch_exceptions=False)


def test_what_does_not_fit_names_the_file(clone: Path) -> None:
    (clone / "deployments" / "good.yaml").write_text(GOOD.replace("8192", "100000"))

    place = "deployments/good.yaml: models/0/serve/max_model_len"
    with pytest.raises(InvalidInput, match=f"^{place}: 100000 is more than"):
        CliRunner().invoke(command, ["good", "--gpu", "L4"], catch_exceptions=False)


GOOD_LOAD = ["good", "--load", "2 rps, 500 in, 200 out"]


@pytest.mark.slow
def test_a_load_is_predicted_and_judged() -> None:
    result = CliRunner().invoke(
        command, [*GOOD_LOAD, "--gpu", "H200", "--target", "ttft_p95<300ms, tpot_p50<1ms", "--price", "3", "--curve"]
    )

    assert result.exit_code == 0, result.output
    assert "llama on 2 replicas of 1 × H200, 2 rps, 500 in, 200 out" in result.output
    assert "meets  ttft_p95 < 300 ms" in result.output
    assert "misses tpot_p50 < 1 ms" in result.output
    assert "quantization: fp8" in result.output
    assert "No number of these GPUs meets it." in result.output
    assert "GPU-hours, " in result.output
    assert "4 rps" in result.output
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_nothing_is_simulated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated: list[tuple[Any, ...]] = []

    def noted(asked: Iterable[tuple[float, Lengths]], profile: EngineProfile, **service: Any) -> Outcome:
        arrivals = list(asked)
        simulated.append((len(arrivals), arrivals[-1][0], profile, service["replicas"]))
        return serve_arrivals(arrivals, profile, **service)

    monkeypatch.setattr(forecast, "serve_arrivals", noted)

    CliRunner().invoke(command, ["good", "--load", "3 rps, 500 in, 50 out", "--target", "ttft_p95<1s", "--curve"])

    assert simulated
    assert len(simulated) == len(set(simulated))


@pytest.mark.slow
def test_a_script_gets_the_prediction_with_its_error() -> None:
    result = CliRunner().invoke(command, [*GOOD_LOAD, "--target", "ttft_p95<1s", "--json"])

    document = json.loads(result.stdout)
    assert document["meets"] is True
    assert document["now"]["gpu"] == "L40S"
    assert document["now"]["latency_seconds"]["ttft"]["p95"] < 1
    assert document["sizes"][0]["replicas"] == 1
    told = document["calibration"]["errors"]["tokens_per_second"]
    assert 0 < told["usual"] < told["most"] < 0.2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "ttft_p95<1s"], "--target says nothing without --load"),
        (["--load", "2 rps, 500 in", "--target", "soon"], "it has no tokens 'out'"),
        (["--load", "2 rps, 500 in", "--target", "soon"], "'soon' is not understood"),
        (["--load", "2 rps, 9k in, 1k out"], "requests have up to 40,000 tokens, and llama takes 8,192"),
        (["--load", "2 rps, 500 in, 9 out", "--model", "gpt"], "the deployment has no model 'gpt'"),
    ],
)
def test_what_is_asked_wrongly_is_told(words: list[str], told: str) -> None:
    result = CliRunner().invoke(command, ["good", *words])

    assert isinstance(result.exception, InvalidInput)
    assert told in str(result.exception)


@pytest.mark.slow
def test_how_often_speculation_is_right_must_be_given(clone: Path) -> None:
    speculating = GOOD.replace(
        "{max_model_len: 8192}",
        "{max_model_len: 8192, speculative_config: {method: ngram, num_speculative_tokens: 3}}",
    )
    (clone / "deployments" / "good.yaml").write_text(speculating)

    asked = CliRunner().invoke(command, GOOD_LOAD)
    given = CliRunner().invoke(command, [*GOOD_LOAD, "--acceptance", "0.6", "--json"])

    assert "--acceptance 0.7" in str(asked.exception)
    assert json.loads(given.stdout)["now"]["output_tokens_per_second"] > 0
