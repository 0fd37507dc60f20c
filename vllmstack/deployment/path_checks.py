"""Files that a deployment names: are they there, and are they what they should be? Reads the disk, changes nothing."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

from vllmstack.deployment.api_keys import key_file_problems
from vllmstack.deployment.model import Tls
from vllmstack.deployment.wording import shown
from vllmstack.errors import Problem


def model_directory_problems(place: str, written: Path, directory: Path) -> Iterator[Problem]:
    """What keeps vLLM from loading ``directory``; ``written`` is what the file says."""
    if not directory.exists():
        yield Problem(
            place=place,
            fact=f"there is no directory {shown(str(written))}",
            hint="write a path relative to the deployment file, or an absolute one",
        )
        return
    if not directory.is_dir():
        yield Problem(
            place=place, fact=f"{shown(str(written))} is a file", hint="name the folder that holds config.json"
        )
        return
    config = directory / "config.json"
    if not config.is_file():
        yield Problem(
            place=place,
            fact=f"{shown(str(written))} has no config.json, so it holds no model",
            hint="name the folder that holds config.json, tokenizer and weights",
        )
        return
    try:
        is_mapping = isinstance(json.loads(config.read_text("utf-8")), dict)
    except (OSError, ValueError):
        is_mapping = False
    if not is_mapping:
        yield Problem(
            place=place,
            fact=f"config.json in {shown(str(written))} cannot be read as JSON",
            hint="copy the model again",
        )


def adapter_problems(place: str, written: str, folder: Path | None, *, can_download: bool) -> Iterator[Problem]:
    """A LoRA adapter that the engine would not find; no folder: ``written`` is taken for a hub id."""
    if folder is None:
        if not can_download:
            yield Problem(
                place=place,
                fact=f"there is no directory {shown(written)}, and a model from a directory has no way to the hub",
                hint="download the adapter, and write its path relative to the deployment file",
            )
    elif not folder.is_dir():
        yield Problem(
            place=place,
            fact=f"there is no directory {shown(written)}",
            hint="write a path relative to the deployment file, an absolute one, or a hub id: ORGANISATION/NAME",
        )
    elif not (folder / "adapter_config.json").is_file():
        yield Problem(
            place=place,
            fact=f"{shown(written)} has no adapter_config.json, so it holds no LoRA adapter",
            hint="name the folder that holds adapter_config.json and the adapter's weights",
        )


def api_keys_problems(place: str, written: Path, file: Path) -> Iterator[Problem]:
    """A key file that is missing, unreadable or wrong; its problems carry the key file's own name and lines."""
    text, problem = _read(place, written, file, "`vllmstack keys add NAME --deployment THIS_FILE` makes it")
    if problem:
        yield problem
    for found in key_file_problems(text) if text is not None else ():
        where = f"{written}, {found.place}" if found.place else str(written)
        yield Problem(place=place, fact=f"{where}: {found.fact}", hint=found.hint)


def tls_problems(written: Tls, resolved: Tls) -> Iterator[Problem]:
    """A certificate or key that is missing, is no PEM, or does not belong to the other."""
    texts: list[str | None] = []
    for key, marker, noun in (
        ("certificate", "-----BEGIN CERTIFICATE-----", "certificate"),
        ("key", "PRIVATE KEY-----", "private key"),
    ):
        place = f"gateway/tls/{key}"
        shown_path, path = getattr(written, key), getattr(resolved, key)
        text, problem = _read(
            place, shown_path, path, f"write the path of the {noun} (PEM), relative to the deployment file"
        )
        if text is not None and marker not in text:
            problem = Problem(
                place=place,
                fact=f"{shown(str(shown_path))} holds no {noun} in PEM form",
                hint=f"it should have a line with `{marker}`; `openssl` converts other forms",
            )
        if text is not None and key == "key" and "ENCRYPTED" in text:
            problem = Problem(
                place=place,
                fact=f"{shown(str(shown_path))} asks for a passphrase, and nobody is there to type it",
                hint="write it without one: `openssl pkey -in KEY -out PLAIN_KEY`",
            )
        if problem:
            yield problem
        texts.append(None if problem else text)
    if all(texts):
        yield from _pair_problems(resolved)


def _pair_problems(tls: Tls) -> Iterator[Problem]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        yield Problem(
            place="gateway/tls/key" if mismatch else "gateway/tls/certificate",
            fact="is not the key of this certificate"
            if mismatch
            else "OpenSSL cannot read this certificate and its key",
            hint="use the key that the certificate was made from" if mismatch else "copy both files again",
        )


def _read(place: str, written: Path, file: Path, hint: str) -> tuple[str | None, Problem | None]:
    name = shown(str(written))
    try:
        return file.read_text("utf-8"), None
    except FileNotFoundError:
        return None, Problem(place=place, fact=f"there is no file {name}", hint=hint)
    except IsADirectoryError:
        return None, Problem(place=place, fact=f"{name} is a folder", hint=hint)
    except UnicodeDecodeError:
        return None, Problem(place=place, fact=f"{name} is not a text file", hint=hint)
    except OSError as error:
        return None, Problem(place=place, fact=f"{name} cannot be read: {error.strerror}", hint="check its permissions")
