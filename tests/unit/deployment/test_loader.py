"""Finding a deployment file, and what loading makes of a right one."""

from pathlib import Path

import pytest

from vllmstack.deployment.loader import find, image_names, load
from vllmstack.errors import InvalidInput


def test_a_name_means_the_file_in_the_folder(folder: Path) -> None:
    assert find("good", folder) == folder / "good.yaml"


def test_a_path_is_taken_as_it_is_written(folder: Path) -> None:
    assert find("./good.yaml", folder) == Path("good.yaml")


def test_an_unknown_name_suggests_the_nearest(folder: Path) -> None:
    with pytest.raises(InvalidInput) as error:
        find("goood", folder)

    assert str(error.value) == "there is no deployment named 'goood'\n  hint: Perhaps you meant `good`?"


def test_a_name_far_from_all_lists_them(folder: Path) -> None:
    (folder / "other.yaml").write_text("")

    with pytest.raises(InvalidInput, match="hint: the deployments are good and other"):
        find("xyz", folder)


def test_an_unknown_path_suggests_the_nearest_name(folder: Path) -> None:
    with pytest.raises(InvalidInput) as error:
        find("there/goood.yaml", folder)

    assert str(error.value) == "there/goood.yaml: there is no such file\n  hint: Perhaps you meant `good`?"


def test_an_empty_folder_says_so(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="empty holds no deployment"):
        find("any", Path("empty"))


def test_paths_become_absolute_from_the_files_own_folder(
    folder: Path, good: str, tls_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = good.replace(
        "port: 8000", "port: 8000\n  api_keys_file: keys\n  tls: {certificate: cert.pem, key: ./sub/../key.pem}"
    )
    (folder / "sub").mkdir()
    (folder / "tls.yaml").write_text(text)
    monkeypatch.chdir("/")

    deployment = load(folder / "tls.yaml")

    assert deployment.models[1].source.directory == folder / "model"
    assert deployment.gateway.api_keys_file == folder / "keys"
    assert deployment.gateway.tls is not None
    assert (deployment.gateway.tls.certificate, deployment.gateway.tls.key) == (folder / "cert.pem", folder / "key.pem")


def test_options_are_normalised_to_underscores_and_json_texts_to_what_they_hold(folder: Path, good: str) -> None:
    serve = 'max-model-len: 4096\n      speculative-config: \'{"method": "ngram"}\''
    (folder / "dashes.yaml").write_text(good.replace("max_model_len: 4096", serve))

    deployment = load(Path("dashes.yaml"))

    assert deployment.models[0].serve == {"max_model_len": 4096, "speculative_config": {"method": "ngram"}}


def test_api_keys_allow_an_open_address(folder: Path, good: str) -> None:
    (folder / "open.yaml").write_text(good.replace("port: 8000", "address: 0.0.0.0\n  api_keys_file: keys"))

    assert load(Path("open.yaml")).gateway.address == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "'::1'"])
def test_loopback_needs_no_api_keys(address: str, folder: Path, good: str) -> None:
    (folder / "local.yaml").write_text(good.replace("port: 8000", f"address: {address}"))

    assert load(Path("local.yaml")).gateway.api_keys_file is None


def test_code_from_the_hub_is_trusted_at_a_fixed_commit(folder: Path, good: str) -> None:
    text = good.replace("max_model_len: 4096", "trust_remote_code: true")
    text = text.replace("hub: meta/llama", f"hub: meta/llama, revision: {'0123456789' * 4}")
    (folder / "trusted.yaml").write_text(text)

    assert load(Path("trusted.yaml")).models[0].serve == {"trust_remote_code": True}


def test_parallel_sizes_that_make_up_a_replicas_gpus_pass(folder: Path, good: str) -> None:
    text = good.replace("    replicas: 2", "    gpus: 4").replace(
        "max_model_len: 4096", "tensor_parallel_size: 2\n      pipeline_parallel_size: 2"
    )
    (folder / "parallel.yaml").write_text(text)

    assert load(Path("parallel.yaml")).models[0].gpus == 4


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda _: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b"\x7fELF\xff\xfe\x00"), "is not UTF-8 text (byte 5)"),
        (lambda path: path.write_bytes(b"name: a\x00b"), "is not YAML: unacceptable character"),
        (lambda path: path.write_text("a" * (1 << 20) + "a"), "is larger than 1 MiB"),
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.write_text("a: &x [*x]"), "a/0: holds itself"),
        (lambda path: path.write_text("[" * 5000), "is not YAML: "),
    ],
)
def test_what_is_no_deployment_file_is_said_in_one_line(make: object, fact: str, folder: Path) -> None:
    assert callable(make)
    make(folder / "it.yaml")

    with pytest.raises(InvalidInput) as error:
        load(Path("it.yaml"))

    assert len(error.value.problems) == 1
    assert str(error.value).startswith(f"it.yaml: {fact}")


def test_a_file_that_may_not_be_read_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root, as tests run in containers, may read everything

    with pytest.raises(InvalidInput) as error:
        load(Path("good.yaml"))

    assert str(error.value).startswith("good.yaml: you may not read this file\n  hint: ")


def test_a_wrong_value_does_not_hide_or_cause_others(folder: Path, good: str) -> None:
    # Without its replicas' GPUs, nothing can be said of the parallel sizes; of the environment it can.
    text = good.replace("    replicas: 2", "    gpus: many").replace("max_model_len: 4096", "tensor_parallel_size: 2")
    (folder / "two.yaml").write_text(text.replace("VLLM_LOGGING_LEVEL: INFO", "HF_TOKEN: x"))

    with pytest.raises(InvalidInput) as error:
        load(Path("two.yaml"))

    assert [problem.place for problem in error.value.problems] == ["models/0/gpus", "models/0/environment/HF_TOKEN"]


def test_the_images_that_can_be_replaced_are_those_of_the_stack() -> None:
    assert {"engine", "engine-cpu", "gateway", "prometheus", "grafana"} <= set(image_names())
