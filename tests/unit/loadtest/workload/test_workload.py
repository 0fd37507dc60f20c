"""Sessions by their number: exact, reproducible, and alike only where the scenario says so."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loadtest.errors import LoadTestError
from loadtest.offered.arrival import Arrival
from loadtest.workload import tokenizer as tokenizer_module
from loadtest.workload.steps import CHAT, COMPLETIONS, EMBEDDINGS, Request, Session, Think
from loadtest.workload.tokenizer import Tokenizer
from loadtest.workload.workload import Workload

Make = Callable[..., Workload]
BLOCK_TOKENS = 16
"""vLLM caches whole blocks of so many tokens."""
CONVERSATION = {"turns": 3, "message_tokens": "10-20", "think_seconds": "1-2"}


def first(session: Session) -> Request:
    step = next(session)
    assert isinstance(step, Request)
    return step


def body(request: Request) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(request.body)
    return content


def chat_tokens(request: Request, tokenizer: Tokenizer) -> list[int]:
    text = tokenizer.render_chat(body(request)["messages"], body(request).get("tools"))
    return tokenizer.encode(text, special=False)


def sent(workload: Workload, count: int) -> list[Request]:
    return [first(workload.session(index)) for index in range(count)]


def shared_blocks(one: list[int], other: list[int]) -> int:
    """Whole blocks in which two prompts begin alike."""
    same = next((place for place, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), len(one))
    return same // BLOCK_TOKENS


def test_a_chat_session_is_one_request_of_the_planned_length(workload: Make, smoke: Tokenizer) -> None:
    session = workload(prompt_tokens=77).session(0)
    request = first(session)
    assert (request.path, request.streamed, request.model, request.scenario) == (CHAT, True, "smoke", "test")
    assert (request.turn, request.keep_text, request.headers, request.abandon_after_seconds) == (0, False, {}, None)
    assert request.expected_prompt_tokens == len(chat_tokens(request, smoke)) == 77
    assert body(request)["max_completion_tokens"] == 32
    with pytest.raises(StopIteration):
        session.send(None)


def test_a_completion_has_its_prompt_as_text(workload: Make, smoke: Tokenizer) -> None:
    request = first(workload(endpoint="completions", prompt_tokens=200).session(0))
    assert request.path == COMPLETIONS
    assert smoke.count(body(request)["prompt"]) == request.expected_prompt_tokens == 200


def test_embeddings_count_all_their_inputs(workload: Make, smoke: Tokenizer) -> None:
    request = first(workload(endpoint="embeddings", completion_tokens=None, inputs_per_request=3).session(0))
    assert (request.path, request.streamed) == (EMBEDDINGS, False)
    inputs = body(request)["input"]
    assert len(inputs) == len(set(inputs)) == 3
    assert sum(smoke.count(text) for text in inputs) == request.expected_prompt_tokens


def test_code_is_to_be_continued(workload: Make, smoke: Tokenizer) -> None:
    request = first(workload(endpoint="completions", text="code", prompt_tokens=400).session(0))
    prompt = body(request)["prompt"]
    assert prompt.startswith("# ")
    assert "\ndef " in prompt
    assert smoke.count(prompt) == 400


def test_the_same_seed_gives_the_same_bytes_in_any_order(workload: Make) -> None:
    forward = [request.body for request in sent(workload(seed=3), 10)]
    other = workload(seed=3)
    assert [first(other.session(index)).body for index in reversed(range(10))] == forward[::-1]
    assert [request.body for request in sent(workload(seed=4), 10)] != forward


def test_another_salt_changes_texts_but_no_length(workload: Make) -> None:
    one, other = sent(workload(seed=3, salt="run 1"), 20), sent(workload(seed=3, salt="run 2"), 20)
    assert not {request.body for request in one} & {request.body for request in other}
    lengths = [(request.expected_prompt_tokens, body(request)["max_completion_tokens"]) for request in one]
    assert lengths == [(request.expected_prompt_tokens, body(request)["max_completion_tokens"]) for request in other]


def test_sessions_share_no_block_where_the_scenario_shares_nothing(workload: Make, smoke: Tokenizer) -> None:
    requests = sent(workload(tenants={"count": 2}), 60)
    beginnings = Counter(tuple(chat_tokens(request, smoke)[:BLOCK_TOKENS]) for request in requests)
    assert set(beginnings.values()) == {1}


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_system_prompt_of_all_is_at_the_beginning_of_every_prompt(
    endpoint: str, workload: Make, smoke: Tokenizer
) -> None:
    made = workload(endpoint=endpoint, prompt_tokens="150-200", system_prompt={"tokens": 100})
    prompts = [
        chat_tokens(request, smoke) if endpoint == "chat" else smoke.encode(body(request)["prompt"])
        for request in sent(made, 20)
    ]
    assert {shared_blocks(prompts[0], prompt) for prompt in prompts[1:]} == {100 // BLOCK_TOKENS}


def test_a_system_prompt_of_nobody_is_another_each_time(workload: Make, smoke: Tokenizer) -> None:
    system = {"tokens": 100, "shared_by": "nobody"}
    requests = sent(workload(prompt_tokens=200, system_prompt=system), 20)
    texts = {body(request)["messages"][0]["content"] for request in requests}
    assert len(texts) == 20
    assert {smoke.count(text) for text in texts} == {100}
    assert {len(chat_tokens(request, smoke)) for request in requests} == {200}


def test_each_tenant_has_its_own_system_prompt_and_says_its_name(workload: Make) -> None:
    system = {"tokens": 60, "shared_by": "tenant"}
    requests = sent(workload(prompt_tokens=120, tenants={"count": 4, "header": "X-Team"}, system_prompt=system), 80)
    texts = {(request.headers["X-Team"], body(request)["messages"][0]["content"]) for request in requests}
    assert {name for name, _ in texts} == {"tenant-000", "tenant-001", "tenant-002", "tenant-003"}
    assert len(texts) == len({text for _, text in texts}) == 4
    assert all(body(request)["user"] == request.headers["X-Team"] for request in requests)


def test_questions_about_one_set_of_documents_share_its_text(workload: Make, smoke: Tokenizer) -> None:
    documents = {"tokens": 50, "per_request": 3, "sets": 2}
    requests = sent(workload(prompt_tokens="260-300", documents=documents), 30)
    contents = [body(request)["messages"][0]["content"] for request in requests]
    sets = {content[: content.rindex("\n\n")] for content in contents}
    assert len(sets) == 2
    assert all(content.startswith("Document 1:\n") and "\n\nDocument 3:\n" in content for content in contents)
    assert [len(chat_tokens(request, smoke)) for request in requests] == [
        request.expected_prompt_tokens for request in requests
    ]


def test_a_conversation_grows_with_the_real_answers(workload: Make, smoke: Tokenizer) -> None:
    session = workload(conversation=CONVERSATION).session(5)
    opening = first(session)
    assert (opening.session, opening.headers, opening.keep_text) == ("test-5", {"X-Session-Id": "test-5"}, True)
    pause = session.send("Paris, I think.")
    assert isinstance(pause, Think)
    assert 1 <= pause.seconds <= 2
    second = session.send(None)
    assert isinstance(second, Request)
    messages = body(second)["messages"]
    assert messages[:2] == [*body(opening)["messages"], {"role": "assistant", "content": "Paris, I think."}]
    assert 10 <= smoke.count(messages[2]["content"]) <= 21
    assert (second.turn, second.expected_prompt_tokens, second.session) == (1, None, "test-5")
    session.send("Yes.")
    third = session.send(None)
    assert isinstance(third, Request)
    assert (third.turn, third.keep_text, len(body(third)["messages"])) == (2, False, 5)
    with pytest.raises(StopIteration):
        session.send(None)


def test_a_conversation_ends_where_a_request_failed(workload: Make) -> None:
    session = workload(conversation=CONVERSATION).session(0)
    first(session)
    with pytest.raises(StopIteration):
        session.send(None)


def test_a_conversation_ends_before_its_history_is_too_long(workload: Make) -> None:
    session = workload(conversation=CONVERSATION, max_model_len=420).session(0)
    first(session)
    with pytest.raises(StopIteration):
        session.send("many words " * 200)


def test_a_history_that_only_looks_long_goes_on(workload: Make, smoke: Tokenizer) -> None:
    session = workload(conversation=CONVERSATION, max_model_len=420).session(0)
    first(session)
    # More bytes than the model takes tokens, but far fewer tokens.
    answer = " international" * 30
    assert len(answer) > 400
    assert smoke.count(answer) < 200
    assert isinstance(session.send(answer), Think)


def test_clients_that_leave_say_when(workload: Make) -> None:
    requests = sent(workload(abandonment={"share": 0.5, "after_seconds": 1.5}), 40)
    assert {request.abandon_after_seconds for request in requests} == {None, 1.5}


def test_a_traces_lengths_are_the_prompts(workload: Make, smoke: Tokenizer) -> None:
    request = first(workload().session(0, Arrival(0.0, prompt_tokens=345, completion_tokens=7)))
    assert len(chat_tokens(request, smoke)) == request.expected_prompt_tokens == 345
    assert body(request)["max_completion_tokens"] == 7


def test_a_trace_below_the_template_is_raised_and_told(workload: Make, smoke: Tokenizer) -> None:
    made = workload()
    assert not made.notes
    request = first(made.session(0, Arrival(0.0, prompt_tokens=2, completion_tokens=7)))
    assert len(chat_tokens(request, smoke)) == request.expected_prompt_tokens == 9
    (note,) = made.notes
    assert note == "1 prompts of the trace are too short for the chat template: they were sent somewhat longer"


def test_a_trace_that_names_pieces_gives_prompts_that_begin_alike(workload: Make, smoke: Tokenizer) -> None:
    made = workload(endpoint="completions")
    arrivals = [Arrival(0.0, 250, 5, blocks, 64) for blocks in ((1, 2, 3, 4), (1, 2, 9, 10), (7, 2, 3, 4))]
    one, other, different = (
        smoke.encode(body(first(made.session(index, arrival)))["prompt"]) for index, arrival in enumerate(arrivals)
    )
    assert {len(one), len(other), len(different)} == {250}
    assert shared_blocks(one, other) >= 128 // BLOCK_TOKENS - 1
    assert shared_blocks(one, different) == 0


def test_a_trace_beyond_the_model_is_refused_before_the_run(workload: Make) -> None:
    made = workload(max_model_len=512)
    made.check([Arrival(0.0, 500, 12), Arrival(1.0)])
    with pytest.raises(LoadTestError) as caught:
        made.check([Arrival(0.0, 500, 13), Arrival(1.0, 9, 9), Arrival(2.0, 1000, 200)])
    (problem,) = caught.value.problems
    assert problem.fact == "2 of 3 requests have up to 1,200 tokens, more than the 512 that smoke takes (max_model_len)"


def test_nothing_is_tokenized_for_sessions_that_were_prepared(workload: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made, arrival = workload(conversation=CONVERSATION), Arrival(0.5, 99, 9)
    same = workload(conversation=CONVERSATION)
    wanted = [first(same.session(index)).body for index in range(5)]
    made.prepare([*range(5), (7, arrival)])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tokenized while the clock runs")

    for name in ("count", "count_chat", "encode", "decode", "render_chat"):
        monkeypatch.setattr(tokenizer_module.Tokenizer, name, refuse)
    sessions = [made.session(index) for index in range(5)]
    assert [first(session).body for session in sessions] == wanted
    assert first(made.session(7, arrival)).expected_prompt_tokens == 99
    assert isinstance(sessions[0].send("An answer of a few words."), Think)
    assert isinstance(sessions[0].send(None), Request)
    with pytest.raises(AssertionError, match="tokenized while"):
        first(made.session(8))


def test_a_prepared_session_is_found_whatever_its_time(workload: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = workload()
    made.prepare(2)
    monkeypatch.setattr(tokenizer_module.Tokenizer, "count_chat", lambda *_: 0)
    assert first(made.session(1, Arrival(12.5))).session == "test-1"


def test_a_mix_sends_its_parts_by_weight_each_under_its_name(workload: Make) -> None:
    parts = [
        {"scenario": name, "weight": weight, "definition": {
            "name": name, "endpoint": endpoint, "prompt_tokens": 40, "completion_tokens": 9
        }}
        for name, weight, endpoint in (("talk", 3, "chat"), ("more", 1, "completions"))
    ]  # fmt: skip
    made = workload(mix=parts, prompt_tokens=None, completion_tokens=None)
    requests = sent(made, 800)
    counts = Counter((request.scenario, request.path) for request in requests)
    assert counts.keys() == {("talk", CHAT), ("more", COMPLETIONS)}
    assert counts["talk", CHAT] / 800 == pytest.approx(0.75, abs=0.08)
    assert len({request.body for request in requests}) == 800


def test_a_session_of_an_impossible_length_says_so(workload: Make) -> None:
    made = workload(prompt_tokens="9-120", system_prompt=None)
    assert first(made.session(0))
    with pytest.raises(LoadTestError, match="60 tokens are too few"):
        workload(system_prompt={"tokens": 70})


def test_another_thread_may_prepare_while_sessions_are_asked_for(workload: Make) -> None:
    parameters = {"prompt_tokens": "150-300", "tenants": {"count": 9}, "documents": {"tokens": 20, "sets": 9}}
    wanted = [request.body for request in sent(workload(**parameters), 200)]
    made = workload(**parameters)
    with ThreadPoolExecutor(1) as pool:
        preparing = pool.submit(made.prepare, 200)
        assert [request.body for request in sent(made, 200)] == wanted
        preparing.result(timeout=60)
