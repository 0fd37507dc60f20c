"""Forecasts, and how many replicas a load needs."""

import pytest

from tests.unit.prediction.designs import design
from vllmstack.prediction.efficiency import calibration
from vllmstack.prediction.forecast import forecast, percentiles
from vllmstack.prediction.goal import parse_goals
from vllmstack.prediction.load import parse_load
from vllmstack.prediction.sizing import curve, fewest_replicas, improvements, limit, sizes

pytestmark = pytest.mark.slow

EFFICIENCY = calibration().efficiency
HEAVY = parse_load("60 rps, 1000 in, 300 out")


def test_more_load_takes_longer_and_too_much_does_not_keep_up() -> None:
    points = [seen for _, seen in curve(parse_load("16 rps, 1000 in, 300 out"), design(), 1, EFFICIENCY)]

    ttft = [seen.latencies["ttft"]["p95"] for seen in points]
    assert ttft == sorted(ttft)
    # 1.6 to 16 a second it answers, at 32 it does not; where between the two it gives up is no matter.
    assert [seen.keeps_up for seen in points[:5]] == [True] * 5
    assert not points[-1].keeps_up


def test_what_does_not_keep_up_misses_every_target() -> None:
    seen = forecast(HEAVY, design().profile(EFFICIENCY))

    goals = parse_goals("e2e_p99<1000s, tokens>1")
    assert not seen.keeps_up
    assert seen.misses(goals) == list(goals)


def test_the_fewest_replicas_meet_the_target_and_one_less_does_not() -> None:
    goals = parse_goals("ttft_p95<300ms, tpot_p50<20ms")

    found = fewest_replicas(HEAVY, design(), goals, EFFICIENCY)

    assert found is not None
    assert found.meets
    assert found.forecast.replicas == 3
    fewer = forecast(HEAVY, design().profile(EFFICIENCY), replicas=2)
    assert fewer.misses(goals)


def test_what_is_found_keeps_up_also_when_it_is_judged() -> None:
    """Six replicas get through a minute of it, and not through two."""
    load = parse_load("160 rps, 1000 in, 300 out")

    found = fewest_replicas(load, design(), (), EFFICIENCY)

    assert found is not None
    assert found.forecast == forecast(load, design().profile(EFFICIENCY), replicas=found.forecast.replicas)
    assert found.forecast.keeps_up


def test_a_target_that_no_number_of_replicas_meets_is_found_out() -> None:
    assert fewest_replicas(HEAVY, design(), parse_goals("tpot_p50<1ms"), EFFICIENCY) is None


def test_wider_replicas_meet_what_single_gpus_cannot() -> None:
    load = parse_load("2 rps, 500 in, 200 out")
    found = sizes(load, design(), parse_goals("tpot_p50<3.5ms"), EFFICIENCY)

    assert found
    assert all(option.design.gpus_per_replica > 1 for option in found)


def test_a_model_too_large_for_one_gpu_is_spread() -> None:
    load = parse_load("0.2 rps, 500 in, 100 out")
    found = sizes(load, design("Qwen/Qwen2.5-72B-Instruct", "A100-80GB"), (), EFFICIENCY)

    assert {option.design.gpus_per_replica for option in found} == {2, 4, 8}


def test_eight_bit_weights_are_among_what_to_try() -> None:
    tried = {option.design.change: option for option in improvements(HEAVY, design(), 1, (), EFFICIENCY)}

    packed = tried["quantization: fp8"].forecast
    assert packed.tokens_per_second > 1.3 * forecast(HEAVY, design().profile(EFFICIENCY)).tokens_per_second


def test_what_limits_a_service_is_told() -> None:
    assert limit(HEAVY, design(), 1, EFFICIENCY).startswith("the GPUs")
    small = design("meta-llama/Llama-2-13b-hf", max_model_len=4096, gpu_memory_utilization=0.3)
    assert limit(parse_load("10 rps, 800 in, 200 out"), small, 1, EFFICIENCY).startswith("the KV cache")
    tiny = design("meta-llama/Llama-3.2-1B")
    assert limit(parse_load("256 users, 100 in, 200 out"), tiny, 1, EFFICIENCY).startswith("vLLM's Python")
    assert limit(parse_load("512 users, 20 in, 4 out"), tiny, 1, EFFICIENCY).startswith("vLLM's API server")


def test_a_load_under_which_nothing_is_answered_in_time_limits_itself() -> None:
    much = parse_load("200 rps, 1000 in, 8k out, fixed")

    assert limit(much, design(), 1, EFFICIENCY).startswith("the load")


def test_users_of_a_service_with_nothing_to_spare_share_it() -> None:
    one, many = (
        forecast(parse_load(f"{users} users, 500 in, 200 out"), design().profile(EFFICIENCY)) for users in (1, 64)
    )

    assert many.tokens_per_second > 15 * one.tokens_per_second
    assert many.latencies["tpot"]["p50"] > one.latencies["tpot"]["p50"]


def test_a_shared_prompt_is_computed_once() -> None:
    alone = forecast(parse_load("20 rps, 2000 in, 100 out"), design().profile(EFFICIENCY))
    shared = forecast(parse_load("20 rps, 2000 in, 100 out, 1800 shared"), design().profile(EFFICIENCY))

    assert shared.latencies["ttft"]["p50"] < 0.8 * alone.latencies["ttft"]["p50"]


def test_percentiles_are_values_that_were_seen() -> None:
    found = percentiles([float(number) for number in range(1, 101)])

    assert (found["p50"], found["p95"], found["p99"]) == (50.0, 95.0, 99.0)
    assert found["mean"] == pytest.approx(50.5)
    assert set(percentiles([]).values()) == {0.0}
