"""Secrets: who may read them, when they are made, and where a token comes from."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import KEY, Clone
from vllmstack.deployment.api_keys import digest, keys_text, make_key
from vllmstack.deployment.model import Deployment
from vllmstack.errors import HostError
from vllmstack.host.secret_files import hub_token, prepare_hub_token, prepare_secrets, write_keys

TOKEN = "hf_0123456789"


def deployment(*, gated: bool = False, **gateway: Any) -> Deployment:
    models = [{"name": "llama", "source": {"hub": "org/llama", "gated": gated}}]
    return Deployment.model_validate({"name": "test", "models": models, "gateway": gateway})


def secret(clone: Clone, name: str) -> Path:
    return clone.project.secrets / name


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_folder_is_closed_and_its_files_are_readable_in_containers(clone: Clone) -> None:
    prepare_secrets(clone.project, deployment())

    assert mode(clone.project.secrets) == 0o700
    assert {file.name: mode(file) for file in clone.project.secrets.iterdir()} == {
        "none": 0o444,
        "grafana_admin_password": 0o444,
        "alerts": 0o755,
    }


def test_a_folder_that_was_open_is_closed(clone: Clone) -> None:
    clone.project.secrets.mkdir(mode=0o755)

    prepare_secrets(clone.project, deployment())

    assert mode(clone.project.secrets) == 0o700


def test_what_the_deployment_does_not_use_is_an_empty_file(clone: Clone) -> None:
    prepare_secrets(clone.project, deployment())

    assert secret(clone, "none").read_bytes() == b""


def test_the_password_is_made_once_and_is_long(clone: Clone) -> None:
    prepare_secrets(clone.project, deployment())
    first = secret(clone, "grafana_admin_password").read_text()

    prepare_secrets(clone.project, deployment())

    assert secret(clone, "grafana_admin_password").read_text() == first
    assert len(first) >= 32
    assert first == first.strip()


def test_no_two_clones_have_the_same_password(clone: Clone) -> None:
    prepare_secrets(clone.project, deployment())
    first = secret(clone, "grafana_admin_password").read_text()
    secret(clone, "grafana_admin_password").unlink()

    prepare_secrets(clone.project, deployment())

    assert secret(clone, "grafana_admin_password").read_text() != first


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_password_is_made_anew_for_with_it_grafana_takes_its_default(clone: Clone, text: str) -> None:
    prepare_secrets(clone.project, deployment())
    password = secret(clone, "grafana_admin_password")
    password.chmod(0o644)
    password.write_text(text)

    prepare_secrets(clone.project, deployment())

    assert len(password.read_text()) >= 32


def test_a_password_that_a_person_chose_stays(clone: Clone) -> None:
    clone.project.secrets.mkdir()
    secret(clone, "grafana_admin_password").write_text("correct horse battery staple\n")

    prepare_secrets(clone.project, deployment())

    assert secret(clone, "grafana_admin_password").read_text() == "correct horse battery staple\n"


def test_the_token_of_the_environment_is_kept_for_a_gated_model(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")

    prepare_secrets(clone.project, deployment(gated=True))

    assert secret(clone, "hub_token").read_text() == TOKEN
    assert mode(secret(clone, "hub_token")) == 0o444


def test_no_token_is_kept_where_no_model_asks_for_one(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    prepare_secrets(clone.project, deployment())

    assert not secret(clone, "hub_token").exists()


def test_for_models_the_token_is_kept_in_its_file_and_without_one_the_file_is_empty(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = prepare_hub_token(clone.project)
    monkeypatch.setenv("HF_TOKEN", "hf_fresh\n")
    with_token = prepare_hub_token(clone.project)

    assert (without, without.read_text()) == (clone.project.secrets / "none", "")
    assert (with_token, with_token.read_text()) == (clone.project.secrets / "hub_token", "hf_fresh")
    assert clone.project.secrets.stat().st_mode & 0o777 == 0o700


def test_a_token_is_looked_for_in_the_environment_then_in_files(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_token(clone.project) is None

    clone.project.secrets.mkdir()
    secret(clone, "hub_token").write_text("kept-before\n")
    assert hub_token(clone.project) == "kept-before"

    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("of-hf-auth-login\n")
    assert hub_token(clone.project) == "of-hf-auth-login"

    (tmp_path / "elsewhere").write_text("of-the-path\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "elsewhere"))
    assert hub_token(clone.project) == "of-the-path"

    monkeypatch.setenv("HF_TOKEN", "of-the-environment")
    assert hub_token(clone.project) == "of-the-environment"


def test_an_empty_token_file_is_no_token(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("\n")

    assert hub_token(clone.project) is None


def test_a_token_path_that_is_a_folder_is_no_token(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path))

    assert hub_token(clone.project) is None


@pytest.mark.parametrize("content", [b"hf_one\nhf_two\n", "hf_one’".encode(), b"hf_\xff"])
def test_what_is_no_token_is_refused_and_not_shown(clone: Clone, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_bytes(content)

    with pytest.raises(HostError) as caught:
        prepare_hub_token(clone.project)

    assert str(caught.value) == (
        f"{tmp_path}/hf/token: holds no token: that is one word of ASCII\n"
        "  hint: put the token there as the hub shows it, and nothing else"
    )
    assert not secret(clone, "hub_token").exists()


def test_what_is_no_token_keeps_nobody_from_starting_who_needs_none(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_one hf_two")

    prepare_secrets(clone.project, deployment())

    with pytest.raises(HostError, match="HF_TOKEN: holds no token"):
        prepare_secrets(clone.project, deployment(gated=True))


def test_certificate_and_key_are_copied(clone: Clone, tmp_path: Path) -> None:
    files = {"cert.pem": "certificate\n", "key.pem": "key\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    tls = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}

    prepare_secrets(clone.project, deployment(tls=tls))

    copies = {"tls_certificate": "cert.pem", "tls_key": "key.pem"}
    assert {name: secret(clone, name).read_text() for name in copies} == {
        name: files[original] for name, original in copies.items()
    }
    assert {mode(secret(clone, name)) for name in copies} == {0o444}


def test_the_gateway_gets_the_users_keys_and_one_of_the_stacks_own(clone: Clone, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(keys_text([make_key("alice", KEY)]))

    prepare_secrets(clone.project, deployment(api_keys_file=str(keys)))

    own = secret(clone, "stack_key").read_text()
    given = json.loads(secret(clone, "api_keys").read_text())["keys"]
    assert {entry["name"]: entry["sha256"] for entry in given} == {"alice": digest(KEY), "vllmstack": digest(own)}
    assert {mode(secret(clone, name)) for name in ("api_keys", "stack_key")} == {0o444}


def test_the_stacks_own_key_is_made_once(clone: Clone, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    prepare_secrets(clone.project, deployment(api_keys_file=str(keys)))
    first = secret(clone, "stack_key").read_text()

    prepare_secrets(clone.project, deployment(api_keys_file=str(keys)))

    assert secret(clone, "stack_key").read_text() == first


def test_without_keys_the_stack_has_none_of_its_own(clone: Clone) -> None:
    prepare_secrets(clone.project, deployment())

    assert not secret(clone, "stack_key").exists()


def test_changed_keys_are_seen_by_the_container_that_has_them_mounted(clone: Clone, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(keys_text([make_key("alice", KEY)]))
    prepare_secrets(clone.project, deployment(api_keys_file=str(keys)))
    mounted = secret(clone, "api_keys").stat().st_ino

    write_keys(clone.project, [make_key("bob", KEY)])

    # A bind mount follows the inode, not the name.
    assert secret(clone, "api_keys").stat().st_ino == mounted
    given = json.loads(secret(clone, "api_keys").read_text())["keys"]
    assert [entry["name"] for entry in given] == ["bob", "vllmstack"]
    assert mode(secret(clone, "api_keys")) == 0o444


def test_a_folder_that_cannot_be_written_is_one_clear_line(clone: Clone) -> None:
    clone.project.secrets.write_text("a file where a folder should be")

    with pytest.raises(HostError) as caught:
        prepare_secrets(clone.project, deployment())

    (problem,) = caught.value.problems
    assert problem.fact == f"cannot write {clone.project.secrets}: File exists"
    assert problem.hint.startswith("give this user the folder secrets")
