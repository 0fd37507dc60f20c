"""The model's own tokenizer is found, and counts as the engine does."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.stack import TokenizerSource
from loadtest.workload.tokenizer import Tokenizer, load_tokenizer
from tests.unit.loadtest.workload import tokenizer_files
from tests.unit.loadtest.workload.tokenizer_files import CHAT_ML, SMOKE

HELLO = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the smoke model's tokenizer that a test may change."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(SMOKE / name, folder / name)
    return folder


def loaded(folder: Path, **options: object) -> Tokenizer:
    return load_tokenizer(TokenizerSource(directory=folder.name), relative_to=folder.parent, options=options)


def settings(folder: Path, **changes: object) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_chat_counts_with_its_template(smoke: Tokenizer) -> None:
    assert smoke.render_chat(HELLO) == (
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    # Seven words and the question mark; two marks with a role and a line end each, an end with a line end.
    assert smoke.count_chat(HELLO) == smoke.count("What is the capital of France?") + 8
    assert smoke.count("What is the capital of France?") == 7


def test_a_completion_counts_with_the_special_tokens_that_the_tokenizer_adds(
    tokenizers: Callable[[str], Tokenizer],
) -> None:
    tokenizer = tokenizers("sentence-piece")
    assert tokenizer.count("the model") == len(tokenizer.encode("the model", special=False)) + 1
    assert tokenizer.encode("the model")[0] == 1


def test_a_chat_has_the_beginning_of_sequence_of_its_template_once(tokenizers: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizers("sentence-piece")
    assert tokenizer.render_chat(HELLO).startswith("<s>[INST] What")
    ids = tokenizer.encode(tokenizer.render_chat(HELLO), special=False)
    assert (ids.count(1), tokenizer.count_chat(HELLO)) == (1, len(ids))


def test_truncation_and_padding_in_the_file_are_left_out(tokenizers: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizers("word-piece")
    assert tokenizer.count("the") == 3
    assert tokenizer.count("the " * 100) == 102


@pytest.mark.parametrize(
    ("changes", "ids"),
    [
        ({"add_bos_token": True}, [1, 74]),
        ({"add_bos_token": True, "add_eos_token": True}, [1, 74, 2]),
        ({"add_bos_token": False}, [74]),
        ({"add_bos_token": True, "bos_token": None}, [74]),
    ],
)
def test_special_tokens_are_added_as_the_settings_say(changes: dict[str, object], ids: list[int], model: Path) -> None:
    settings(model, **changes)
    assert loaded(model).encode("h") == ids


@pytest.mark.parametrize(
    ("changes", "marked"),
    [({"legacy": False}, False), ({"legacy": True}, True), ({"tokenizer_class": "PreTrainedTokenizerFast"}, True)],
)
def test_llamas_tokenizer_marks_a_space_after_special_tokens_only_as_transformers_does(
    changes: dict[str, object], marked: bool, tmp_path: Path
) -> None:
    folder = tokenizer_files.sentence_piece(tmp_path / "llama")
    settings(folder, **changes)
    tokenizer = loaded(folder)
    tokens = [str(tokenizer.backend.id_to_token(one)) for one in tokenizer.encode("<s>[INST] the", special=False)]
    assert tokens[0] == "<s>"
    assert tokens[1].startswith("▁") is marked


def test_a_template_in_a_file_of_its_own_comes_before_the_settings(model: Path) -> None:
    settings(model, chat_template="{{ messages[0].content }}")
    assert loaded(model).count_chat(HELLO) == 15
    (model / "chat_template.jinja").unlink()
    assert loaded(model).count_chat(HELLO) == 7


def test_vllms_own_options_come_before_both(model: Path) -> None:
    template = model / "short.jinja"
    template.write_text("{{ messages[0].content }}{{ ending }}")
    ending = {"ending": " the the"}
    assert loaded(model, chat_template="{{ messages[0].content }}").count_chat(HELLO) == 7
    assert loaded(model, chat_template=str(template), default_chat_template_kwargs=ending).count_chat(HELLO) == 9
    assert loaded(
        model, chat_template=str(template), default_chat_template_kwargs=json.dumps(ending)
    ).count_chat(HELLO) == 9  # fmt: skip


def test_a_template_of_its_own_for_tools_is_taken_with_tools(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    named = [{"name": "default", "template": CHAT_ML}, {"name": "tool_use", "template": "{{ tools | tojson }}"}]
    settings(model, chat_template=named)
    tokenizer = loaded(model)
    assert tokenizer.count_chat(HELLO) == 15
    tool = {"type": "function", "function": {"name": "look"}}
    assert tokenizer.render_chat(HELLO, [tool]).startswith('[{"type": "function"')


def test_older_files_keep_special_tokens_and_templates_elsewhere(model: Path) -> None:
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        (model / name).unlink()
    (model / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": "<|im_start|>"}}))
    (model / "chat_template.json").write_text(json.dumps({"chat_template": "{{ bos_token }}{{ messages[0].content }}"}))
    assert loaded(model).count_chat(HELLO) == 8


def test_a_model_without_a_template_is_told_when_a_chat_is_counted(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    tokenizer = loaded(model)
    assert not tokenizer.has_chat_template
    with pytest.raises(LoadTestError, match="the model has no chat template"):
        tokenizer.count_chat(HELLO)


def test_a_hub_models_tokenizer_is_found_in_the_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--meta--llama"
    shutil.copytree(model, repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    for source in (TokenizerSource(hub="meta/llama"), TokenizerSource(hub="meta/llama", revision="abc123")):
        assert load_tokenizer(source, relative_to=tmp_path).count_chat(HELLO) == 15


@pytest.mark.parametrize(
    ("source", "fact", "hint"),
    [
        (
            TokenizerSource(hub="meta/other"),
            "the tokenizer of meta/other is not in the hub's cache",
            "`make up` downloads it with the model",
        ),
        (TokenizerSource(directory="empty"), "holds no tokenizer.json", "copy the model's tokenizer.json"),
        (
            TokenizerSource(directory="piece"),
            "holds a tokenizer, but not as tokenizer.json",
            "write one with transformers",
        ),
        (TokenizerSource(), "it is not known where the model's tokenizer is", "give its folder by --tokenizer"),
        (TokenizerSource(directory="broken"), "is no tokenizer: ", "copy the model's own file again"),
        (TokenizerSource(directory="settings"), "cannot be read: ", "copy the model's own file again"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_told_with_what_mends_it(
    source: TokenizerSource, fact: str, hint: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = model.parent
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("empty", "piece", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "piece" / "tokenizer.model").write_bytes(b"")
    (tmp_path / "broken" / "tokenizer.json").write_text("{}")
    model.rename(tmp_path / "settings")
    (tmp_path / "settings" / "tokenizer_config.json").write_text("{")
    with pytest.raises(LoadTestError) as caught:
        load_tokenizer(source, relative_to=tmp_path)
    (problem,) = caught.value.problems
    assert problem.fact.startswith(fact)
    assert problem.hint.startswith(hint)


def test_a_template_that_only_the_engines_container_has_is_told(model: Path) -> None:
    with pytest.raises(LoadTestError, match=r"serve/chat_template: /templates/x\.jinja cannot be read here"):
        loaded(model, chat_template="/templates/x.jinja")
