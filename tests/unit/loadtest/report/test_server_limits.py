"""Each limit of the server is found by its evidence, and not without it."""

import pytest

from loadtest.results import Environment, ModelFacts
from tests.unit.loadtest.report.findings import engine, found, run_with, text
from tests.unit.loadtest.runs import make_run

QUEUED = {"queue": 0.5, "ttft": 0.6}


def test_a_full_kv_cache_with_a_queue_is_the_limit() -> None:
    run = run_with(
        engine(peak_kv_cache_ratio=0.99, peak_waiting=12, peak_running=60, preemptions=7, times=QUEUED),
        facts={"options": {"gpu-memory-utilization": 0.8, "max_model_len": 32768, "max_num_seqs": 256}},
    )

    finding = found(run)["KV cache"]

    assert finding.evidence[0] == "the KV cache was 99 % full at its peak"
    assert "up to 12 requests waited while 60 ran" in finding.evidence
    assert "7 preemptions: their tokens were computed twice" in finding.evidence
    said = text(finding)
    assert "raise gpu_memory_utilization (now 0.8)" in said
    assert "kv_cache_dtype: fp8" in said
    assert "lower max_model_len (now 32768)" in said
    assert "lower max_num_seqs (now 256)" in said


def test_what_is_done_already_is_not_advised() -> None:
    options = {"gpu_memory_utilization": 0.95, "kv_cache_dtype": "fp8_e4m3"}
    run = run_with(engine(peak_kv_cache_ratio=1.0, peak_waiting=1, times=QUEUED), facts={"options": options})

    said = text(found(run)["KV cache"])

    assert "gpu_memory_utilization" not in said
    assert "fp8 holds" not in said


def test_on_a_cpu_the_kv_cache_is_the_variables_size() -> None:
    full = engine(peak_kv_cache_ratio=1.0, peak_waiting=1, times=QUEUED)

    said = text(found(run_with(full, facts={"gpu": None, "gpus_per_replica": 0}))["KV cache"])

    assert "VLLM_CPU_KVCACHE_SPACE" in said
    assert "gpu_memory_utilization" not in said
    assert "tensor_parallel_size" not in said


@pytest.mark.parametrize("changes", [{"peak_kv_cache_ratio": 0.99}, {"peak_kv_cache_ratio": 0.9, "peak_waiting": 5}])
def test_a_full_cache_nobody_waits_for_is_no_limit(changes: dict[str, float]) -> None:
    assert "KV cache" not in found(run_with(engine(**changes)))


def test_as_many_running_as_may_and_a_queue_is_max_num_seqs() -> None:
    full = engine(peak_running=16, peak_waiting=48, peak_kv_cache_ratio=0.3, times=QUEUED)

    finding = found(run_with(full, facts={"options": {"max_num_seqs": 16}}))["max_num_seqs"]

    assert "16 requests ran at a time, as many as max_num_seqs allows (16), and up to 48 waited" in finding.evidence
    assert "KV cache" not in found(run_with(full, facts={"options": {"max_num_seqs": 16}}))


def test_the_default_of_max_num_seqs_is_known_by_where_it_stops() -> None:
    full = engine(peak_running=256, peak_waiting=48, times=QUEUED)

    assert "256, vLLM's default" in text(found(run_with(full))["max_num_seqs"])
    assert "max_num_seqs" not in found(run_with(engine(peak_running=200, peak_waiting=48, times=QUEUED)))


def test_users_who_all_start_at_once_are_no_queue() -> None:
    start = engine(peak_running=16, peak_waiting=8, times={"queue": 0.002, "ttft": 0.05})

    assert "max_num_seqs" not in found(run_with(start, facts={"options": {"max_num_seqs": 16}}))


def test_a_queue_without_a_full_engine_waits_for_a_step() -> None:
    slow = engine(peak_waiting=9, peak_running=12, peak_kv_cache_ratio=0.3, times=QUEUED)

    finding = found(run_with(slow, facts={"options": {"max_num_batched_tokens": 2048}}))["Waiting for a step"]

    assert finding.evidence[0] == "83 % of the engines' TTFT was queue (500 ms of 600 ms, means)"
    assert "raise max_num_batched_tokens (now 2048)" in text(finding)


def test_long_prompts_show_as_prefill() -> None:
    long = engine(times={"ttft": 2.0, "queue": 0.1, "prefill": 1.8, "e2e": 3.0})

    finding = found(run_with(long, facts={"options": {"enable_prefix_caching": False}}))["Prefill"]

    assert "90 % of the engines' TTFT was computing prompts of 200 tokens (1.80 s of 2.00 s, means)" in finding.evidence
    assert "enable_prefix_caching: true" in text(finding)


def test_a_prefill_that_is_short_beside_the_answer_is_no_limit() -> None:
    assert "Prefill" not in found(run_with(engine(times={"ttft": 0.05, "prefill": 0.049, "e2e": 2.0})))


def test_tpot_near_the_time_that_weights_take_to_read_is_memory_bandwidth() -> None:
    facts = {"weights_bytes": 13.5e9, "memory_bytes_per_second": 4.8e12}

    finding = found(run_with(engine(), facts=facts, tpot=0.0037))["Memory bandwidth"]

    assert "reading 13.5 GB of weights at 4.80 TB/s takes 2.81 ms" in finding.evidence[0]
    assert "more requests at a time" in text(finding)


@pytest.mark.parametrize("tpot", [0.010, 0.0020])
def test_tpot_far_above_the_weights_or_impossibly_below_is_not(tpot: float) -> None:
    facts = {"weights_bytes": 13.5e9, "memory_bytes_per_second": 4.8e12}

    assert "Memory bandwidth" not in found(run_with(engine(), facts=facts, tpot=tpot))


def test_bandwidth_of_unknown_hardware_is_not_guessed() -> None:
    assert "Memory bandwidth" not in found(run_with(engine()))


def test_replicas_with_unequal_shares_are_named() -> None:
    one, two = engine(generation_tokens=30_000), engine(replica="engine-smoke-2", generation_tokens=10_000)

    assert "engine-smoke-1: 30,000, engine-smoke-2: 10,000" in found(run_with(one, two))["Uneven replicas"].evidence[0]


def test_equal_replicas_and_short_runs_are_not() -> None:
    even = run_with(engine(), engine(replica="engine-smoke-2", generation_tokens=21_000))
    short = run_with(engine(requests=5), engine(replica="engine-smoke-2", requests=5, generation_tokens=1))

    assert "Uneven replicas" not in found(even)
    assert "Uneven replicas" not in found(short)


def test_prompts_from_the_prefix_cache_are_told() -> None:
    assert "62 % of the prompt tokens" in text(found(run_with(engine(prefix_hits=24_800)))["Prefix cache"])
    assert "Prefix cache" not in found(run_with(engine(prefix_hits=400)))


def test_two_models_are_told_apart() -> None:
    run = make_run(
        engines=[engine(peak_kv_cache_ratio=1.0, peak_waiting=3, times=QUEUED), engine(model="other")],
        environment=Environment(models=[ModelFacts(name="smoke"), ModelFacts(name="other")]),
    )

    assert "KV cache: smoke" in found(run)
    assert "KV cache: other" not in found(run)
