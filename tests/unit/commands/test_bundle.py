"""`vllmstack bundle` and `vllmstack load BUNDLE`: what goes over, what is refused, and what is never left behind."""

import errno
import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.unit.conftest import SMOKE, Clone, Outcome, Programs
from tests.unit.image_store import ImageStore, StoredImage
from vllmstack.bundle.archive import END, ArchiveWriter
from vllmstack.deployment.api_keys import keys_text, make_key
from vllmstack.host import image_supply
from vllmstack.host.image_supply import SOURCE_LABEL, ImageSupply
from vllmstack.images import load_images
from vllmstack.planning.inventory import Inventory

pytestmark = pytest.mark.slow

Run = Callable[..., Outcome]

BUNDLE = "smoke.bundle.tar"
WEIGHTS = b"weights" * 1000


@pytest.fixture
def store(
    clone: Clone, programs: Programs, inventory: Inventory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ImageStore:
    """A daemon with all images, on a disk with room; git knows the commit."""
    made = ImageStore(tmp_path)
    images = load_images(clone.project.images_file).images
    made.has(*(image.reference for image in images.values()))
    supply = ImageSupply(clone.project, made.client)
    for image in images.values():
        if image.build:
            made.store[image.reference].labels[SOURCE_LABEL] = supply._digest(image.build)
    programs.install("git", "echo 0123456789ab")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=500 << 30))
    monkeypatch.setattr(image_supply, "CA_BUNDLES", ())
    monkeypatch.setattr("docker.from_env", lambda **_: made)
    (clone.root / "models" / "smoke" / "model.safetensors").write_bytes(WEIGHTS)
    return made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `load` would have started."""
    names: list[str] = []
    monkeypatch.setattr("vllmstack.commands.bundle_loading.bring_up", names.append)
    return names


@dataclass(frozen=True, kw_only=True)
class OtherHost:
    """What the clone and the daemon become."""

    clone: Clone
    store: ImageStore
    started: list[str]

    def begins(self) -> None:
        """From here on there are neither images nor the model nor the deployment."""
        self.store.store.clear()
        shutil.rmtree(self.clone.root / "models")
        shutil.rmtree(self.clone.project.deployments)

    def is_untouched(self) -> bool:
        """Nothing was loaded, nothing unpacked or half unpacked, nothing started."""
        bundles = self.clone.project.bundles
        return not (self.started or self.store.store or (bundles.exists() and any(bundles.iterdir())))


@pytest.fixture
def other_host(clone: Clone, store: ImageStore, started: list[str]) -> OtherHost:
    return OtherHost(clone=clone, store=store, started=started)


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        return {member.name: content.read() for member in archive if (content := archive.extractfile(member))}


def unpacked(clone: Clone) -> Path:
    (folder,) = clone.project.bundles.iterdir()
    return folder


def test_a_bundle_holds_deployment_weights_and_images(vllmstack: Run, store: ImageStore) -> None:
    done = vllmstack("bundle", "smoke")

    assert done.status == 0, done.err
    names = list(members(Path(BUNDLE)))
    assert names[:4] == ["bundle.json", "deployment.yaml", "models/smoke/config.json", "models/smoke/model.safetensors"]
    assert names[4:-1] == [
        f"images/{name}.tar.gz"
        for name in ("alertmanager", "engine-cpu", "exporters", "gateway", "grafana", "node-exporter", "prometheus")
    ]
    assert names[-1] == "SHA256SUMS"
    assert done.out == f"\non the other host:\n\nvllmstack load {BUNDLE}\n"
    assert f"• {BUNDLE}: 0.00 GB in " in done.err


def test_its_deployment_pulls_builds_and_downloads_nothing(vllmstack: Run, store: ImageStore) -> None:
    vllmstack("bundle", "smoke")

    text = members(Path(BUNDLE))["deployment.yaml"].decode()
    data = yaml.safe_load(text)
    assert text.startswith("# From a bundle made 20")
    assert data["models"][0]["source"] == {"directory": "models/smoke"}
    assert data["images"]["prometheus"] == "prom/prometheus:v3.5.0"
    assert data["images"]["engine-cpu"] == "vllmstack/engine-cpu:0.32.0"
    assert "loadtest" not in data["images"]


def test_the_load_tests_image_travels_when_it_is_asked_for(vllmstack: Run, store: ImageStore) -> None:
    vllmstack("bundle", "smoke", "--with-loadtest", "--output", "x.tar")

    assert "images/loadtest.tar.gz" in members(Path("x.tar"))


def test_the_clone_and_its_packages_travel_when_they_are_asked_for(
    vllmstack: Run, store: ImageStore, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.install(
        "git", 'case "$*" in *ls-files*) printf "compose.yaml\\0docker/images.yaml\\0" ;; *) echo 1 ;; esac'
    )
    programs.install("python", 'while [ "$1" != --dest ]; do shift; done; echo > "$2/a.whl"')
    monkeypatch.setattr("sys.executable", str(programs.folder / "python"))

    done = vllmstack("bundle", "smoke", "--with-project")

    assert done.status == 0, done.err
    found = members(Path(BUNDLE))
    assert found["vllmstack/compose.yaml"] == Path("compose.yaml").read_bytes()
    assert "vllmstack/wheels/a.whl" in found
    assert f"tar -xf {BUNDLE} vllmstack && cd vllmstack && scripts/bootstrap.sh\n" in done.out
    assert f".venv/bin/vllmstack load ../{BUNDLE}\n" in done.out


def test_without_grafanas_image_the_bundle_is_without_grafana(vllmstack: Run, store: ImageStore) -> None:
    del store.store["grafana/grafana:12.2.0"]

    done = vllmstack("bundle", "smoke")

    assert "grafana is left out" in done.err
    assert yaml.safe_load(members(Path(BUNDLE))["deployment.yaml"])["monitoring"] == {"grafana": False}


def test_no_secret_travels(vllmstack: Run, store: ImageStore, certificate: Clone) -> None:
    key = "sk-0123456789abcdef0123456789abcdef"
    entry = make_key("alice", key)
    folder = certificate.project.deployments
    (folder / "keys").write_text(keys_text([entry]))
    gateway = "gateway: {api_keys_file: keys, tls: {certificate: cert.pem, key: key.pem}}\n"
    receivers = "monitoring: {receivers: {page: {webhook_configs: [{url_file: /run/secrets/alerts/hook}]}}}\n"
    certificate.deployment(f"{SMOKE}{gateway}{receivers}")
    certificate.project.secrets.mkdir()
    (certificate.project.secrets / "hub_token").write_text("hf_0123456789abcdefghijklmnop")

    done = vllmstack("bundle", "smoke")

    assert done.status == 0, done.err
    content = Path(BUNDLE).read_bytes()
    for secret in (key, entry.sha256, "hf_0123456789", "PRIVATE KEY", "BEGIN CERTIFICATE", "alice"):
        assert secret.encode() not in content
    assert (
        "• the certificate and its key stay here: the other host needs secrets/smoke.certificate.pem and "
        "secrets/smoke.key.pem of its own\n"
    ) in done.err
    assert "• API keys stay here: `vllmstack load` says there how to make new ones\n" in done.err
    assert "• secrets of receivers stay here: the other host needs below secrets/alerts/ hook\n" in done.err


def test_a_hub_models_snapshot_becomes_a_folder(
    vllmstack: Run, store: ImageStore, clone: Clone, tmp_path: Path
) -> None:
    commit = "0" * 40
    repository = tmp_path / "volume" / "hub" / "models--org--llama"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs" / "a").write_bytes(WEIGHTS)
    (repository / "snapshots" / commit / "model.safetensors").symlink_to("../../blobs/a")
    manifest = tmp_path / "volume" / "manifests" / "models--org--llama" / f"{commit}.json"
    manifest.parent.mkdir(parents=True)
    file = {"path": "model.safetensors", "size": len(WEIGHTS), "sha256": "a" * 64}
    manifest.write_text(json.dumps({"hub": "org/llama", "commit": commit, "files": [file]}))
    store.volumes_here["vllmstack_hub-cache"] = tmp_path / "volume"
    clone.deployment(SMOKE.replace("{directory: ../models/smoke}", "{hub: org/llama}"))

    done = vllmstack("bundle", "smoke")

    assert done.status == 0, done.err
    found = members(Path(BUNDLE))
    assert found["models/smoke/model.safetensors"] == WEIGHTS
    text = found["deployment.yaml"].decode()
    assert f"#   models/smoke: org/llama@{commit}\n" in text
    assert yaml.safe_load(text)["models"][0]["source"] == {"directory": "models/smoke"}
    assert store.containers_left == 0


def test_a_hub_model_that_was_not_downloaded_is_one_line(vllmstack: Run, store: ImageStore, clone: Clone) -> None:
    clone.deployment(SMOKE.replace("{directory: ../models/smoke}", "{hub: org/llama}"))

    done = vllmstack("bundle", "smoke")

    assert done.status == 1
    assert done.err.startswith("vllmstack: org/llama (revision main) is not in the volume hub-cache")
    assert not Path(BUNDLE).exists()


def test_half_a_download_is_refused(vllmstack: Run, store: ImageStore, clone: Clone) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (clone.root / "models" / "smoke" / "model.safetensors.index.json").write_text(json.dumps(index))

    done = vllmstack("bundle", "smoke")

    assert done.status == 1
    assert done.err == (
        f"vllmstack: deployments/smoke.yaml: models/0/source: {clone.root}/models/smoke lacks model-2.safetensors, "
        "which its index lists: its download did not end\n  hint: download it again\n"
    )


def test_a_file_that_is_there_is_not_overwritten(vllmstack: Run, store: ImageStore) -> None:
    Path(BUNDLE).write_text("mine")

    done = vllmstack("bundle", "smoke")

    assert done.status == 1
    assert done.err == (f"vllmstack: {BUNDLE}: is there already\n  hint: remove it, or name another file by --output\n")
    assert Path(BUNDLE).read_text() == "mine"


def test_a_folder_that_is_not_there_is_one_line(vllmstack: Run, store: ImageStore) -> None:
    done = vllmstack("bundle", "smoke", "--output", "nowhere/x.tar")

    assert (done.status, done.err.splitlines()[0]) == (1, "vllmstack: nowhere/x.tar: its folder is not there")


def test_a_path_that_may_not_be_looked_at_is_one_line(
    vllmstack: Run, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = Path.stat

    def refusing(path: Path, **options: bool) -> os.stat_result:
        if "closed" in path.parts:  # as another user's folder does
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refusing)

    bundled = vllmstack("bundle", "smoke", "--output", "closed/x.tar")
    loaded = vllmstack("load", "closed/x.tar")

    assert (bundled.status, bundled.err) == (
        1,
        "vllmstack: closed/x.tar: cannot be written: Permission denied\n  hint: name another file by --output\n",
    )
    assert (loaded.status, loaded.err) == (
        1,
        "vllmstack: closed/x.tar: cannot be read: Permission denied\n  hint: check its permissions\n",
    )


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    vllmstack: Run, store: ImageStore, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.store["vllmstack/engine-cpu:0.32.0"].size = 4_000_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000_000))

    done = vllmstack("bundle", "smoke")

    assert done.status == 1
    # The archive, and the daemon's own copy of the largest image, on one disk.
    assert "vllmstack: 8.0 GB are needed below " in done.err
    assert ", and 2.0 GB are free\n" in done.err
    assert list(clone.root.glob("*.tar")) + list(clone.root.glob(".*.part")) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_of_a_bundle_that_cannot_be_written_nothing_stays(
    vllmstack: Run, store: ImageStore, clone: Clone, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)

    done = vllmstack("bundle", "smoke")

    if isinstance(error, OSError):
        assert (done.status, done.err.splitlines()[-2]) == (
            1, f"vllmstack: cannot write {BUNDLE}: No space left on device",
        )  # fmt: skip
    else:
        assert done.status == 130
    assert list(clone.root.glob("*.tar")) + list(clone.root.glob(".*.part")) == []


def test_load_brings_images_and_weights_and_starts_the_deployment(
    vllmstack: Run, clone: Clone, store: ImageStore, other_host: OtherHost, started: list[str]
) -> None:
    before = store.ids()
    vllmstack("bundle", "smoke")
    other_host.begins()

    done = vllmstack("load", BUNDLE)

    assert done.status == 0, done.err
    folder = unpacked(clone)
    assert started == [f"bundles/{folder.name}/smoke.yaml"]
    assert (folder / "models" / "smoke" / "model.safetensors").read_bytes() == WEIGHTS
    assert store.pulled == []
    assert store.ids().items() <= before.items()
    assert len(store.ids()) == 7
    assert vllmstack("validate", started[0]).status == 0
    assert f"{BUNDLE}: smoke, made 20" in done.err
    assert "7 images, 0.00 GB of weights, identity " in done.err
    assert f"• from now on `vllmstack up {started[0]}` starts it\n" in done.err
    assert "docker/ has in this clone" not in done.err
    assert {oct(path.stat().st_mode & 0o777) for path in [folder, *folder.rglob("*")] if path.is_dir()} == {"0o755"}


def test_up_of_what_was_loaded_asks_no_registry_and_builds_nothing(
    vllmstack: Run, other_host: OtherHost, programs: Programs
) -> None:
    vllmstack("bundle", "smoke")
    other_host.begins()
    vllmstack("load", BUNDLE)

    done = vllmstack("render", other_host.started[0])

    assert done.status == 0, done.err
    assert other_host.store.pulled == []
    assert [call for call in programs.calls("docker") if "buildx build" in call] == []


def test_loading_twice_does_no_harm(
    vllmstack: Run, clone: Clone, store: ImageStore, other_host: OtherHost, started: list[str]
) -> None:
    vllmstack("bundle", "smoke")
    other_host.begins()
    vllmstack("load", BUNDLE)
    files = {path: path.stat().st_mtime_ns for path in unpacked(clone).rglob("*")}
    count = len(store.loads)

    done = vllmstack("load", BUNDLE)

    assert done.status == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in unpacked(clone).rglob("*")} == files
    assert len(store.loads) == count
    assert len(started) == 2


def test_only_images_that_are_missing_are_loaded(vllmstack: Run, store: ImageStore, other_host: OtherHost) -> None:
    vllmstack("bundle", "smoke")
    prometheus = store.store["prom/prometheus:v3.5.0"]
    other_host.begins()
    store.store["prom/prometheus:v3.5.0"] = prometheus

    vllmstack("load", BUNDLE)

    assert len(store.loads) == 6
    assert "prom/prometheus:v3.5.0" not in store.loads


def test_a_deployment_file_that_was_changed_since_stays(
    vllmstack: Run, clone: Clone, store: ImageStore, other_host: OtherHost, started: list[str]
) -> None:
    vllmstack("bundle", "smoke")
    other_host.begins()
    vllmstack("load", BUNDLE)
    file = unpacked(clone) / "smoke.yaml"
    file.write_text(file.read_text() + "gateway: {port: 9000}\n")

    done = vllmstack("load", BUNDLE)

    assert f"! bundles/{file.parent.name}/smoke.yaml was changed since the bundle was loaded first" in done.err
    assert file.read_text().endswith("gateway: {port: 9000}\n")
    assert len(started) == 2


def test_weights_that_were_changed_since_are_one_line(
    vllmstack: Run, clone: Clone, store: ImageStore, other_host: OtherHost, started: list[str]
) -> None:
    vllmstack("bundle", "smoke")
    other_host.begins()
    vllmstack("load", BUNDLE)
    (unpacked(clone) / "models" / "smoke" / "model.safetensors").write_bytes(b"half")

    done = vllmstack("load", BUNDLE)

    name = unpacked(clone).name
    assert done.status == 1
    assert done.err.endswith(
        f"vllmstack: bundles/{name}/models/smoke/model.safetensors: is not what the bundle has, which was loaded into "
        f"this folder before\n  hint: move bundles/{name} away, and load the bundle again\n"
    )
    assert len(started) == 1


def test_another_bundle_of_the_same_deployment_lies_beside_the_first(
    vllmstack: Run, clone: Clone, store: ImageStore, started: list[str]
) -> None:
    vllmstack("bundle", "smoke")
    (clone.root / "models" / "smoke" / "model.safetensors").write_bytes(b"newer weights")
    vllmstack("bundle", "smoke", "--output", "second.tar")

    vllmstack("load", BUNDLE)
    vllmstack("load", "second.tar")

    assert len(set(started)) == 2
    assert len(list(clone.project.bundles.iterdir())) == 2


BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "half": (lambda content: content[: len(content) // 2], "is cut short: its end with the checksums is missing"),
    "a flipped byte": (
        lambda content: content.replace(WEIGHTS[:21], b"Weights" + WEIGHTS[7:21], 1),
        "models/smoke/model.safetensors: is damaged: it has another checksum than it was written with",
    ),
    "no archive": (lambda _: b"PK\x03\x04" * 1000, "is no bundle: it does not begin with bundle.json"),
    "another archive": (lambda _: another_archive(), "is no bundle: it does not begin with bundle.json"),
    "empty": (lambda _: b"", "is no bundle: it does not begin with bundle.json"),
}


def another_archive() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("manifest.json"))
    return stream.getvalue()


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_whole_bundle_is_one_line_and_changes_nothing(
    vllmstack: Run, other_host: OtherHost, kind: str
) -> None:
    vllmstack("bundle", "smoke")
    change, said = BAD[kind]
    Path(BUNDLE).write_bytes(change(Path(BUNDLE).read_bytes()))
    other_host.begins()

    done = vllmstack("load", BUNDLE)

    assert done.status == 1
    first, hint = done.err.splitlines()
    assert first == f"vllmstack: {BUNDLE}: {said}"
    assert hint.startswith("  hint: ")
    assert other_host.is_untouched()


def append(file: Path, path: str, content: bytes) -> None:
    """A member behind the last one."""
    with file.open("r+b") as stream:
        stream.seek(-len(END), os.SEEK_END)
        ArchiveWriter(stream, made=0).add(path, [content])
        stream.write(END)


def test_a_second_image_of_the_same_name_behind_the_checksums_is_not_loaded(
    vllmstack: Run, other_host: OtherHost
) -> None:
    vllmstack("bundle", "smoke")
    append(Path(BUNDLE), "images/gateway.tar.gz", b"evil")
    other_host.begins()

    done = vllmstack("load", BUNDLE)

    assert done.status == 1
    assert done.err.splitlines()[0] == (
        f"vllmstack: {BUNDLE}: images/gateway.tar.gz: comes after the checksums, so that none is its own"
    )
    assert other_host.is_untouched()


def test_what_is_appended_after_it_was_verified_is_not_loaded(
    vllmstack: Run, store: ImageStore, other_host: OtherHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllmstack("bundle", "smoke")
    other_host.begins()
    evil = gzip.compress(json.dumps({"name": "evil", "id": "sha256:evil", "layers": [], "labels": {}}).encode())
    monkeypatch.setattr(
        "vllmstack.commands.bundle_loading.ensure", lambda: append(Path(BUNDLE), "images/gateway.tar.gz", evil)
    )

    done = vllmstack("load", BUNDLE)

    assert done.status == 0, done.err
    assert "evil" not in store.loads
    assert len(store.loads) == 7


@pytest.mark.parametrize(("name", "fact"), [("nowhere", "there is no such file"), ("docker", "is a folder")])
def test_a_name_that_is_no_file_is_one_line(vllmstack: Run, clone: Clone, name: str, fact: str) -> None:
    done = vllmstack("load", name)

    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"vllmstack: {name}: {fact}\n"
        "  hint: name a file that `vllmstack bundle` wrote; a load test takes its scenario by `--scenario`\n"
    )


@pytest.mark.parametrize("options", [["--rate", "4"], ["--here"], ["--stop"], ["--workers", "2"], ["--processes", "2"]])
def test_a_bundle_goes_with_no_option_of_a_load_test(vllmstack: Run, clone: Clone, options: list[str]) -> None:
    done = vllmstack("load", BUNDLE, *options)

    assert done.status == 2
    assert f"{BUNDLE} is a bundle to be loaded: it goes with no option of a load test" in done.err


def test_an_image_that_cannot_be_loaded_leaves_this_host_as_it_was(
    vllmstack: Run, clone: Clone, store: ImageStore, other_host: OtherHost, started: list[str]
) -> None:
    vllmstack("bundle", "smoke")
    other_host.begins()
    older = StoredImage("sha256:older", ["another layer"])
    store.store["prom/alertmanager:v0.28.1"] = older
    store.load_fails["vllmstack/gateway:1.30"] = "no space left on device"

    done = vllmstack("load", BUNDLE)

    assert done.status == 1
    assert done.err.splitlines()[-2] == "vllmstack: loading vllmstack/gateway:1.30: no space left on device"
    assert store.store == {"prom/alertmanager:v0.28.1": older}
    assert list(clone.project.bundles.iterdir()) == []
    assert started == []


def test_a_full_disk_below_the_clone_leaves_nothing(
    vllmstack: Run, other_host: OtherHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllmstack("bundle", "smoke")
    other_host.begins()

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)

    done = vllmstack("load", BUNDLE)

    assert done.status == 1
    assert "vllmstack: cannot write " in done.err
    assert ": No space left on device\n" in done.err
    assert other_host.is_untouched()


def test_too_little_room_is_told_before_anything_changes(
    vllmstack: Run, other_host: OtherHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_host.store.store["vllmstack/engine-cpu:0.32.0"].size = 4_000_000_000
    vllmstack("bundle", "smoke")
    other_host.begins()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000_000))

    done = vllmstack("load", BUNDLE)

    assert done.status == 1
    assert "vllmstack: 8.0 GB are needed below " in done.err
    assert other_host.is_untouched()


def with_keys_and_tls(clone: Clone) -> None:
    (clone.project.deployments / "keys").write_text(keys_text([make_key("alice", "sk-0123456789abcdef")]))
    gateway = "gateway: {api_keys_file: keys, tls: {certificate: cert.pem, key: key.pem}}\n"
    clone.deployment(f"{SMOKE}{gateway}")


def test_the_other_host_brings_its_own_certificate(
    vllmstack: Run, store: ImageStore, certificate: Clone, other_host: OtherHost, started: list[str]
) -> None:
    with_keys_and_tls(certificate)
    vllmstack("bundle", "smoke")
    secrets = certificate.project.secrets
    pair = [(certificate.project.deployments / name).read_text() for name in ("cert.pem", "key.pem")]
    other_host.begins()

    refused = vllmstack("load", BUNDLE)
    secrets.mkdir(mode=0o700)
    (secrets / "smoke.certificate.pem").write_text(pair[0])
    (secrets / "smoke.key.pem").write_text(pair[1])
    done = vllmstack("load", BUNDLE)

    assert refused.status == 1
    assert "vllmstack: secrets/smoke.certificate.pem: is missing: certificates and keys do not travel" in refused.err
    assert "\nsecrets/smoke.key.pem: is missing" in refused.err
    assert done.status == 0, done.err
    assert json.loads((secrets / "smoke.keys.json").read_text()) == {"keys": []}
    assert vllmstack("validate", started[0]).status == 0


def test_keys_that_the_other_host_has_stay(
    vllmstack: Run, store: ImageStore, clone: Clone, other_host: OtherHost
) -> None:
    (clone.project.deployments / "keys").write_text('{"keys": []}')
    clone.deployment(f"{SMOKE}gateway: {{api_keys_file: keys}}\n")
    vllmstack("bundle", "smoke")
    other_host.begins()
    clone.project.secrets.mkdir(mode=0o700)
    text = keys_text([make_key("bob", "sk-0123456789abcdef")])
    (clone.project.secrets / "smoke.keys.json").write_text(text)

    vllmstack("load", BUNDLE)

    assert (clone.project.secrets / "smoke.keys.json").read_text() == text


def test_images_made_from_other_files_than_this_clone_has_are_told(
    vllmstack: Run, store: ImageStore, clone: Clone, other_host: OtherHost
) -> None:
    vllmstack("bundle", "smoke")
    other_host.begins()
    (clone.root / "docker" / "gateway").mkdir()
    (clone.root / "docker" / "gateway" / "Dockerfile").write_text("FROM scratch # newer\n")

    done = vllmstack("load", BUNDLE)

    assert done.status == 0
    assert (
        "! vllmstack/gateway:1.30: made from other files than docker/ has in this clone; take the clone that the "
        "bundle was made with (0123456789ab), or bundle anew with this one\n"
    ) in done.err


def test_another_version_of_the_deployment_file_is_one_line(
    vllmstack: Run, store: ImageStore, clone: Clone, other_host: OtherHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllmstack.commands.bundle.with_values", lambda text, _: text.replace("replicas:", "copies:"))
    vllmstack("bundle", "smoke")
    other_host.begins()

    done = vllmstack("load", BUNDLE)

    assert done.status == 1
    assert f"vllmstack: {BUNDLE}: deployment.yaml: is no deployment file of vllmstack 0.1.0\n" in done.err
    assert store.store == {}
