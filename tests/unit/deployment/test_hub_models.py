"""Which repositories of the hub a model needs, and what the lock makes of it."""

from typing import Any

from vllmstack.deployment.hub_models import all_wishes, pinned, unlocked, wishes_of
from vllmstack.deployment.model import Deployment, Model
from vllmstack.deployment.model_lock import Locked, LockedFile, ModelLock
from vllmstack.hub.selection import are_enough
from vllmstack.hub.wishes import HubFile, Use, Wish

COMMIT = "a" * 40
CACHE = "/var/cache/vllmstack/hub/hub"


def model(**changes: Any) -> Model:
    return Model.model_validate({"name": "llama", "source": {"hub": "org/llama"}} | changes)


def deployment(**changes: Any) -> Deployment:
    return Deployment(name="test", models=(model(**changes),))


def lock(*hubs: str, **changes: Any) -> ModelLock:
    files = {"model.safetensors": LockedFile(bytes=2, blob="b" * 40)}
    entries = (Locked(**{"hub": hub, "revision": "main", "commit": COMMIT, "files": files} | changes) for hub in hubs)
    return ModelLock(models=tuple(entries))


FILES = {
    path: LockedFile(bytes=2, blob="b" * 40)
    for path in (
        *("config.json", "tokenizer.json", "modeling.py", "pytorch_model.bin"),
        *("model.safetensors", "params.json", "consolidated.safetensors"),
    )
}
"""What several uses of one repository have locked."""


def paths(wish: Wish) -> set[str]:
    return {file.path for file in wish.files}


def test_a_model_from_a_directory_needs_nothing() -> None:
    assert wishes_of(model(source={"directory": "/models/llama"}, serve={"tokenizer": "org/tok"})) == ()


def test_a_model_of_the_hub_is_its_repository_on_main() -> None:
    assert wishes_of(model()) == (Wish(hub="org/llama", revision="main"),)


def test_its_tokenizer_its_draft_and_its_adapters_are_needed_too() -> None:
    serve = {
        "tokenizer": "org/tok",
        "tokenizer_revision": "v2",
        "speculative_config": {"model": "org/draft", "num_speculative_tokens": 3},
        "hf_config_path": "org/config",
        "enable_lora": True,
        "lora_modules": [{"name": "sql", "path": "org/sql"}, {"name": "tone", "path": "/adapters/tone"}],
    }

    assert wishes_of(model(serve=serve))[1:] == (
        Wish(hub="org/tok", revision="v2", use=Use.CONFIG),
        Wish(hub="org/draft", revision="main"),
        Wish(hub="org/config", revision="main", use=Use.CONFIG),
        Wish(hub="org/sql", revision="main", use=Use.ADAPTER),
    )


def test_paths_and_methods_are_no_repositories() -> None:
    serve = {"tokenizer": "/opt/tok/enizer", "speculative_config": {"method": "ngram"}, "hf_config_path": "./a/b"}

    assert len(wishes_of(model(serve=serve))) == 1


def test_the_same_repository_is_wished_for_once() -> None:
    assert wishes_of(model(serve={"tokenizer": "org/llama"})) == (Wish(hub="org/llama", revision="main"),)


def test_code_is_wished_for_only_of_a_commit_that_is_trusted() -> None:
    trusting = {"trust_remote_code": True, "tokenizer": "org/tok"}

    first, tokenizer = wishes_of(model(source={"hub": "org/llama", "revision": COMMIT}, serve=trusting))
    on_a_branch, _ = wishes_of(model(serve=trusting))

    assert (first.code, tokenizer.code, on_a_branch.code) == (True, False, False)
    assert not wishes_of(model(source={"hub": "org/llama", "revision": COMMIT}))[0].code


def test_mistrals_own_format_is_wished_for_where_the_options_say_so() -> None:
    assert wishes_of(model(serve={"load_format": "mistral", "config_format": "mistral"}))[0].mistral
    assert not wishes_of(model(serve={"load_format": "auto"}))[0].mistral


def test_what_is_locked_is_wished_for_at_its_commit_with_its_files() -> None:
    (wish,) = wishes_of(model(), lock("org/llama", pickles=True))

    assert wish == Wish(
        hub="org/llama",
        revision="main",
        commit=COMMIT,
        pickles=True,
        files=(HubFile(path="model.safetensors", size=2, blob="b" * 40),),
    )


def test_a_lock_without_the_code_that_is_now_trusted_does_not_count() -> None:
    trusting = model(source={"hub": "org/llama", "revision": COMMIT}, serve={"trust_remote_code": True})

    (without,) = wishes_of(trusting, lock("org/llama", revision=COMMIT))
    (with_code,) = wishes_of(trusting, lock("org/llama", revision=COMMIT, code=True, files=FILES))

    assert not are_enough(without.files, without)
    assert are_enough(with_code.files, with_code)


def test_files_that_were_locked_for_another_use_are_asked_for_anew_at_the_same_commit() -> None:
    only_a_tokenizer = lock("org/llama", files={"tokenizer.json": LockedFile(bytes=2, blob="b" * 40)})
    mistral = model(serve={"load_format": "mistral"})

    (wish,) = wishes_of(model(), only_a_tokenizer)
    (own_format,) = wishes_of(mistral, lock("org/llama"))

    assert (wish.commit, own_format.commit) == (COMMIT, COMMIT)
    assert not are_enough(wish.files, wish)
    assert not are_enough(own_format.files, own_format)


def test_of_what_is_locked_for_all_uses_a_wish_takes_its_own() -> None:
    trusting = model(source={"hub": "org/llama", "revision": COMMIT}, serve={"trust_remote_code": True})
    as_a_tokenizer = model(source={"hub": "org/other"}, serve={"tokenizer": "org/llama"})
    mistral = model(serve={"load_format": "mistral"})

    texts = {"config.json", "params.json", "tokenizer.json"}
    assert paths(wishes_of(model(), lock("org/llama", files=FILES))[0]) == texts | {"model.safetensors"}
    assert paths(wishes_of(as_a_tokenizer, lock("org/llama", files=FILES))[1]) == texts
    assert paths(wishes_of(mistral, lock("org/llama", files=FILES))[0]) == texts | {"consolidated.safetensors"}
    (with_code,) = wishes_of(trusting, lock("org/llama", revision=COMMIT, files=FILES, code=True))
    assert paths(with_code) == texts | {"model.safetensors", "modeling.py"}


def test_a_draft_by_its_short_option_is_needed_and_pinned() -> None:
    serve = {"spec_model": "org/draft", "spec_tokens": 3}

    assert wishes_of(model(serve=serve))[1:] == (Wish(hub="org/draft"),)
    (found,) = pinned(deployment(serve=serve), lock("org/draft")).models
    assert found.serve == serve | {"speculative_config": {"revision": COMMIT}}


def test_a_tokenizer_that_is_the_draft_too_has_its_weights() -> None:
    serve = {"tokenizer": "org/draft", "speculative_config": {"model": "org/draft"}}

    assert wishes_of(model(serve=serve))[1:] == (Wish(hub="org/draft"),)


def test_a_configuration_from_elsewhere_is_pinned_by_its_folder() -> None:
    # By its id vLLM would ask that repository for the model's own commit.
    (found,) = pinned(deployment(serve={"hf_config_path": "org/config"}), lock("org/llama", "org/config")).models

    assert found.serve["hf_config_path"] == f"{CACHE}/models--org--config/snapshots/{COMMIT}"


def test_pinning_writes_the_commit_wherever_vllm_takes_one_and_else_its_folder() -> None:
    serve = {
        "tokenizer": "org/tok",
        "speculative_config": {"model": "org/draft", "num_speculative_tokens": 3},
        "enable_lora": True,
        "lora_modules": [{"name": "sql", "path": "org/sql"}],
    }

    (found,) = pinned(deployment(serve=serve), lock("org/llama", "org/tok", "org/draft", "org/sql")).models

    assert found.source.revision == COMMIT
    assert found.serve == serve | {
        "lora_modules": [{"name": "sql", "path": f"{CACHE}/models--org--sql/snapshots/{COMMIT}"}],
        "tokenizer_revision": COMMIT,
        "speculative_config": {"model": "org/draft", "num_speculative_tokens": 3, "revision": COMMIT},
    }


def test_which_of_two_formats_is_loaded_is_pinned_too() -> None:
    """The files of the other one come to the same folder when another deployment asks for them."""
    formats = {"load_format": "hf", "config_format": "hf", "tokenizer_mode": "hf"}
    in_two_formats = {path: FILES[path] for path in ("config.json", "params.json", "model.safetensors")}
    in_one = {path: FILES[path] for path in ("config.json", "model.safetensors")}

    def pinned_serve(files: dict[str, LockedFile], **serve: Any) -> dict[str, Any]:
        (found,) = pinned(deployment(serve=serve), lock("org/llama", files=files)).models
        return dict(found.serve)

    assert pinned_serve(in_two_formats) == pinned_serve(FILES) == formats
    assert pinned_serve(FILES, load_format="auto", tokenizer_mode="slow") == formats | {"tokenizer_mode": "slow"}
    assert pinned_serve(FILES, load_format="mistral") == {"load_format": "mistral"}
    assert pinned_serve(in_one) == {}


def test_without_a_lock_nothing_is_pinned() -> None:
    assert pinned(deployment(), ModelLock()) == deployment()


def test_unlocked_is_what_stands_on_a_branch() -> None:
    locked = lock("org/llama")

    assert [name for name, _ in unlocked(deployment(), ModelLock())] == ["llama"]
    assert unlocked(deployment(), locked) == []
    assert unlocked(deployment(source={"hub": "org/llama", "revision": COMMIT}), ModelLock()) == []
    assert all_wishes(deployment(source={"directory": "/models"}), locked) == {}
