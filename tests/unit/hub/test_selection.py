"""Which of a repository's files are taken, by their names alone."""

from collections.abc import Collection
from typing import Any

import pytest

from vllmstack.errors import InvalidInput
from vllmstack.hub.selection import index_of, selected
from vllmstack.hub.wishes import HubFile, Use, Wish

TEXTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path=path, size=1, blob="a" * 40) for path in paths]


def taken(*paths: str, shards: Collection[str] | None = None, **wish: Any) -> list[str]:
    return [file.path for file in selected(files(*paths), Wish(**{"hub": "org/m"} | wish), shards)]


def refusal(*paths: str, shards: Collection[str] | None = None, **wish: Any) -> str:
    with pytest.raises(InvalidInput) as failure:
        taken(*paths, shards=shards, **wish)
    (problem,) = failure.value.problems
    assert problem.file == "org/m"
    assert problem.hint
    return problem.fact


def test_what_stands_beside_the_weights_is_taken_as_far_as_it_is_read() -> None:
    small = (
        *TEXTS,
        *("chat_template.jinja", "additional_chat_templates/tools.jinja", "special_tokens_map.json"),
        *(
            "preprocessor_config.json",
            "vocab.txt",
            "merges.txt",
            "tokenizer.model",
            "tokenizer.model.v3",
            "qwen.tiktoken",
        ),
        *("modules.json", "1_Pooling/config.json", "tekken.json"),
    )
    others = (
        "README.md",
        "LICENSE.txt",
        "trainer_state.json",
        "events.out.tfevents.1",
        "onnx/config.json",
        ".gitattributes",
    )

    assert taken(*small, *others, "model.safetensors") == sorted((*small, "model.safetensors"))


def test_of_shards_those_that_the_index_names() -> None:
    there = (*TEXTS, INDEX, *SHARDS, "model.safetensors", "model.fp32.safetensors")

    assert taken(*there, shards=SHARDS) == sorted((*TEXTS, INDEX, *SHARDS))


def test_without_an_index_every_safetensors_file_at_the_root() -> None:
    there = ("config.json", "a.safetensors", "b.safetensors", "unet/c.safetensors", "consolidated.safetensors")

    assert taken(*there, "adapter_model.safetensors") == ["a.safetensors", "b.safetensors", "config.json"]


def test_the_layers_behind_an_embedding_model_are_weights_too() -> None:
    there = ("config.json", "model.safetensors", "2_Dense/config.json", "2_Dense/model.safetensors")

    assert taken(*there) == sorted(there)


@pytest.mark.parametrize(
    "duplicate",
    ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "model.pth", "weights.pkl", "tf_model.h5"],
)
def test_duplicates_in_other_formats_are_left_where_they_are(duplicate: str) -> None:
    there = ("config.json", "model.safetensors")

    assert taken(*there, duplicate, pickles=True) == list(there)


def test_mistrals_own_format_where_it_is_asked_for_or_the_only_one() -> None:
    both = ("config.json", "model.safetensors", "params.json", "consolidated.safetensors", "tekken.json")
    own = ("params.json", "consolidated.safetensors", "tekken.json")

    # Its configuration is small, and tells the lock that there are both.
    assert taken(*both) == ["config.json", "model.safetensors", "params.json", "tekken.json"]
    assert taken("config.json", "model.safetensors", "params.json") == ["config.json", "model.safetensors"]
    assert taken(*both, mistral=True) == ["config.json", "consolidated.safetensors", "params.json", "tekken.json"]
    assert taken(*own) == sorted(own)


def test_python_only_when_code_is_trusted() -> None:
    there = ("config.json", "model.safetensors", "modeling.py", "sub/more.py")

    assert taken(*there) == ["config.json", "model.safetensors"]
    assert taken(*there, code=True) == sorted(there)


def test_an_adapter() -> None:
    there = ("adapter_config.json", "adapter_model.safetensors", "README.md")

    assert taken(*there, use=Use.ADAPTER) == ["adapter_config.json", "adapter_model.safetensors"]
    assert taken(*there, use=Use.ANY) == ["adapter_config.json", "adapter_model.safetensors"]
    assert refusal(*there) == "holds a LoRA adapter, no model"
    assert refusal("config.json", "model.safetensors", use=Use.ADAPTER) == (
        "has no adapter_config.json, so it holds no LoRA adapter"
    )
    assert "only as pickles (adapter_model.bin)" in refusal("adapter_config.json", "adapter_model.bin", use=Use.ADAPTER)


def test_a_tokenizer_needs_no_weights() -> None:
    assert taken("tokenizer.json", "model.safetensors", "pytorch_model.bin", use=Use.CONFIG) == ["tokenizer.json"]


@pytest.mark.parametrize("there", [("README.md", "m-q4.gguf"), ("README.md", "tokenization.py")])
def test_a_tokenizers_repository_without_any_is_refused(there: tuple[str, ...]) -> None:
    fact = "has neither configuration nor tokenizer as vLLM reads them"

    assert refusal(*there, use=Use.CONFIG) == fact
    assert refusal(*there, use=Use.CONFIG, code=True) == fact


def test_pickles() -> None:
    there = (
        "config.json",
        "pytorch_model-1.bin",
        "pytorch_model-2.bin",
        "pytorch_model.bin.index.json",
        "training_args.bin",
    )

    assert refusal(*there) == (
        "has its weights only as pickles (pytorch_model-1.bin and 1 more), which run code when they are loaded"
    )
    assert taken(*there, pickles=True) == sorted(set(there) - {"training_args.bin"})
    assert refusal("config.json", "weights.ckpt", pickles=True) == "has weights that vLLM does not read (weights.ckpt)"


def test_no_weights_at_all() -> None:
    assert refusal("config.json") == "has no weights as safetensors (none that vLLM reads)"
    assert refusal("config.json", "m-q4.gguf") == "has no weights as safetensors (GGUF alone)"
    assert refusal("README.md") == "has no config.json, so it holds no model"


def test_an_index_that_names_what_is_not_there() -> None:
    there = ("config.json", INDEX, SHARDS[0])

    assert refusal(*there, shards=SHARDS) == f"{INDEX} names {SHARDS[1]}, which is not there"
    assert refusal(*there, shards=()) == f"{INDEX} names no file"


@pytest.mark.parametrize(
    "path",
    [
        *("../evil.json", "/etc/evil.json", "a/../../evil.json", "a\\evil.json"),
        "x\n/../../../../models--other--m/snapshots/COMMIT/model.safetensors",
    ],
)
def test_a_path_that_leads_out_of_the_folder_refuses_the_whole_repository(path: str) -> None:
    assert refusal("config.json", "model.safetensors", path).startswith("has a file outside its folder")


def test_the_index_that_has_to_be_read_first() -> None:
    there = files("config.json", INDEX, "params.json", "consolidated.safetensors.index.json")

    def name(**wish: Any) -> str | None:
        found = index_of(there, Wish(**{"hub": "org/m"} | wish))
        return found.path if found else None

    assert name() == INDEX
    assert name(mistral=True) == "consolidated.safetensors.index.json"
    assert name(use=Use.CONFIG) is None
    assert index_of(files("config.json"), Wish(hub="org/m")) is None
