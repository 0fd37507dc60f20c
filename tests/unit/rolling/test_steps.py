"""Which steps, why, and in which order."""

from collections.abc import Sequence

from vllmstack.rolling.steps import (
    Action,
    OtherChange,
    RunningReplica,
    Step,
    WantedReplica,
    all_steps,
    interrupted_models,
    replica_steps,
    restart_steps,
)


def running(service: str, *gpu_ids: int, digest: str = "a", image: str = "i", complaint: str = "") -> RunningReplica:
    model = service.rpartition("-")[0]
    return RunningReplica(
        service=service, model=model, digest=digest, image=image, gpu_ids=gpu_ids, complaint=complaint
    )


def wanted(service: str, *gpu_ids: int, digest: str = "a", image: str = "i") -> WantedReplica:
    return WantedReplica(service=service, model=service.rpartition("-")[0], digest=digest, image=image, gpu_ids=gpu_ids)


def order(now: Sequence[RunningReplica], then: Sequence[WantedReplica]) -> list[str]:
    """Each step as "action service", the removals last."""
    first, later = replica_steps(now, then, {})
    return [f"{one.action.value} {one.service}" for one in (*first, *later)]


def reasons(now: RunningReplica, then: WantedReplica, difference: str = "") -> list[str]:
    first, _ = replica_steps([now], [then], {then.service: difference})
    return [one.reason for one in first]


def test_what_is_as_it_should_be_is_left_alone() -> None:
    assert order([running("m-1"), running("m-2")], [wanted("m-1"), wanted("m-2")]) == []


def test_new_ones_come_before_changed_ones_and_removals_last() -> None:
    now = [running("m-1"), running("old-1"), running("m-2")]
    then = [wanted("m-1", digest="b"), wanted("m-2", digest="b"), wanted("m-3", digest="b")]

    assert order(now, then) == ["start m-3", "replace m-1", "replace m-2", "remove old-1"]


def test_what_does_not_serve_is_replaced_before_what_does() -> None:
    now = [running("m-1"), running("m-2", complaint="is exited"), running("m-3")]
    then = [wanted(f"m-{number}", digest="b") for number in (1, 2, 3)]

    assert order(now, then) == ["replace m-2", "replace m-1", "replace m-3"]


def test_the_reason_is_the_nearest_that_is_known() -> None:
    assert reasons(running("m-1"), wanted("m-1", digest="b"), "max-num-seqs") == ["changed: max-num-seqs"]
    assert reasons(running("m-1"), wanted("m-1", digest="b")) == ["its configuration has changed"]
    assert reasons(running("m-1"), wanted("m-1", image="j")) == ["its image has changed"]
    assert reasons(running("m-1", complaint="is exited"), wanted("m-1")) == ["it is exited"]
    assert reasons(running("m-1", 0), wanted("m-1", 2, 3, digest="b"), "x") == ["it moves from GPU 0 to GPU 2+3"]


def test_a_new_replica_waits_for_the_one_that_moves_away_from_its_gpu() -> None:
    now = [running("a-1", 0), running("b-1", 1)]
    then = [wanted("a-1", 0), wanted("a-2", 1), wanted("b-1", 2, digest="b")]

    assert order(now, then) == ["replace b-1", "start a-2"]


def test_a_replica_that_goes_makes_room_first_where_its_gpu_is_needed() -> None:
    now = [running("old-1", 0), running("old-2", 1)]

    assert order(now, [wanted("new-1", 1)]) == ["remove old-2", "start new-1", "remove old-1"]


def test_a_chain_of_moves_is_walked_from_its_free_end() -> None:
    now = [running("a-1", 0), running("b-1", 1), running("c-1", 2)]
    then = [wanted("a-1", 1, digest="b"), wanted("b-1", 2, digest="b"), wanted("c-1", 3, digest="b")]

    assert order(now, then) == ["replace c-1", "replace b-1", "replace a-1"]


def test_two_that_change_places_need_one_that_lets_go() -> None:
    now = [running("a-1", 0), running("b-1", 1)]
    then = [wanted("a-1", 1, digest="b"), wanted("b-1", 0, digest="b")]

    assert order(now, then) == ["stop a-1", "replace b-1", "replace a-1"]


def test_one_that_lets_go_for_two_does_so_once() -> None:
    now = [running("a-1", 0, 1), running("b-1", 2), running("c-1", 3)]
    then = [wanted("a-1", 2, 3, digest="b"), wanted("b-1", 0, digest="b"), wanted("c-1", 1, digest="b")]

    assert order(now, then) == ["stop a-1", "replace b-1", "replace c-1", "replace a-1"]


def test_two_that_share_a_gpu_and_stay_do_not_wait_for_each_other() -> None:
    now = [running("a-1", 0), running("b-1", 0)]
    then = [wanted("a-1", 0, digest="b"), wanted("b-1", 0, digest="b")]

    assert order(now, then) == ["replace a-1", "replace b-1"]


def test_a_gpu_whose_holder_stays_is_shared_and_nobody_waits() -> None:
    assert order([running("a-1", 0)], [wanted("a-1", 0), wanted("b-1", 0)]) == ["start b-1"]


def whole(now: Sequence[RunningReplica], then: Sequence[WantedReplica], **changes: object) -> list[str]:
    models = {one.model for one in then}
    return [str(one) for one in all_steps(replica_steps(now, then, {}), models=models, **changes)]  # type: ignore[arg-type]


def test_what_goes_is_drained_before_the_reload_and_removed_after_it() -> None:
    assert whole([running("m-1"), running("m-2")], [wanted("m-1")], gateway_files="changed: routes.json") == [
        "drain m-2: it goes",
        "reload gateway: changed: routes.json",
        "remove m-2: the deployment has it no longer",
    ]


def test_a_model_that_goes_altogether_is_refused_from_the_reload_on() -> None:
    assert whole([running("m-1"), running("n-1")], [wanted("m-1")], gateway_files="changed: routes.json") == [
        "reload gateway: changed: routes.json",
        "remove n-1: the deployment has it no longer",
    ]


def test_a_new_gateway_comes_first_and_needs_no_reload() -> None:
    assert whole([], [wanted("m-1")], gateway_container="its port", gateway_files="changed: routes.json") == [
        "new container for gateway: its port",
        "start m-1: it is new",
    ]


def test_other_services_come_last() -> None:
    others = [
        OtherChange(service="prometheus", reason="changed: retention_days"),
        OtherChange(service="grafana", reason="gone", removed=True),
    ]

    assert whole([], [wanted("m-1")], others=others) == [
        "start m-1: it is new",
        "new container for prometheus: changed: retention_days",
        "remove grafana: gone",
    ]


def test_a_restart_begins_with_what_does_not_serve() -> None:
    steps = restart_steps([running("m-1"), running("m-2", complaint="is exited")])

    assert [(one.action, one.service) for one in steps] == [(Action.REPLACE, "m-2"), (Action.REPLACE, "m-1")]


def interrupted(now: Sequence[RunningReplica], steps: Sequence[Step]) -> list[str]:
    return interrupted_models(steps, now)


def test_a_model_waits_while_its_only_replica_is_replaced() -> None:
    now = [running("m-1"), running("n-1"), running("n-2")]

    assert interrupted(now, restart_steps(now)) == ["m"]


def test_a_replica_that_does_not_serve_is_none_to_wait_for() -> None:
    now = [running("m-1"), running("m-2", complaint="is exited")]

    assert interrupted(now, restart_steps(now)) == []
    assert interrupted(now, restart_steps(now[:1])) == ["m"]


def test_a_new_replica_helps_only_once_the_gateway_knows_it() -> None:
    now, then = [running("m-1")], [wanted("m-1", digest="b"), wanted("m-2")]
    steps = all_steps(replica_steps(now, then, {}), models={"m"}, gateway_files="changed: routes.json")

    assert [one.action for one in steps] == [Action.START, Action.REPLACE, Action.RELOAD]
    assert interrupted(now, steps) == ["m"]


def test_replicas_that_are_removed_interrupt_nobody() -> None:
    now = [running("m-1"), running("m-2")]

    assert interrupted(now, all_steps(replica_steps(now, [wanted("m-1")], {}), models={"m"})) == []


def test_files_of_models_come_first_and_only_of_those_that_get_a_container() -> None:
    steps = replica_steps(
        [running("m-1"), running("n-1")], [wanted("m-1", digest="b"), wanted("n-1"), wanted("o-1")], {}
    )

    found = all_steps(
        steps,
        models={"m", "n", "o"},
        preloads={"m": "preload-m", "n": "preload-n", "o": "preload-o"},
        gateway_container="its image has changed",
    )

    assert [f"{one.action.value} {one.service}" for one in found] == [
        "preload preload-o",
        "preload preload-m",
        "new gateway gateway",
        "start o-1",
        "replace m-1",
    ]
    assert str(found[0]) == "preload preload-o: its engines read its files"
    assert interrupted_models(found, [running("m-1"), running("n-1")]) == ["m"]
