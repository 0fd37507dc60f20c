"""Images: as they are, pulled, or built; and what is said of those that are left out."""

import re
from pathlib import Path

import docker.errors
import pytest
import requests.exceptions

from tests.unit.conftest import DOCKER_THAT_WORKS, Clone, Programs
from tests.unit.fake_docker import FakeDocker
from vllmstack.errors import HostError
from vllmstack.host import image_supply
from vllmstack.host.image_supply import SOURCE_LABEL, ImageSupply, ca_bundle, debian_mirror, replacement
from vllmstack.images import Build, Image

UPSTREAM = Image(reference="prom/prometheus:v3.5.0", build=Build(folder="prometheus", base="trixie"))
OWN = Image(reference="vllmstack/gateway:1.30", pulled=False, build=Build(folder="gateway", base="trixie"))
ENGINE = Image(reference="vllm/vllm-openai:v0.32.0")
GRAFANA = Image(reference="grafana/grafana:12.2.0")

UNREACHABLE = docker.errors.APIError(
    "500 Server Error",
    explanation='Get "https://registry.example.org/v2/": dial tcp: lookup registry.example.org: no such host',
)


@pytest.fixture
def supply(clone: Clone, daemon: FakeDocker, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> ImageSupply:
    """On a machine with a Debian base image and no CA bundle; `docker buildx` succeeds."""
    for folder in ("gateway", "prometheus"):
        (clone.root / "docker" / folder).mkdir()
        (clone.root / "docker" / folder / "Dockerfile").write_text(f"FROM scratch # {folder}\n")
    daemon.images_here = {"debian:trixie-slim": {}}
    monkeypatch.setattr(image_supply, "CA_BUNDLES", ())
    monkeypatch.setattr(image_supply, "_pip_config", lambda: None)
    return ImageSupply(clone.project, daemon.client)


def built(programs: Programs) -> list[str]:
    return [call for call in programs.calls("docker") if call.startswith("buildx build ")]


def label_of(build: str) -> str:
    match = re.search(rf"--label {re.escape(SOURCE_LABEL)}=(\w+)", build)
    assert match
    return match[1]


def test_an_image_that_is_there_is_taken_as_it_is(supply: ImageSupply, daemon: FakeDocker) -> None:
    daemon.images_here[ENGINE.reference] = {}

    assert supply.provide({"engine": ENGINE}) == {"engine": ENGINE.reference}
    assert daemon.pulled == []


def test_an_image_that_can_be_pulled_is_pulled(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.registry[UPSTREAM.reference] = [{"status": "Pulling from prom/prometheus"}, {"status": "Pull complete"}]

    assert supply.provide({"prometheus": UPSTREAM}) == {"prometheus": UPSTREAM.reference}
    assert built(programs) == []
    assert capsys.readouterr().err == "• pulling prom/prometheus:v3.5.0\n"


def test_an_image_that_cannot_be_pulled_is_built_under_a_name_of_its_own(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs, clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.registry[UPSTREAM.reference] = UNREACHABLE

    assert supply.provide({"prometheus": UPSTREAM}) == {"prometheus": "vllmstack/prometheus:3.5.0"}

    (build,) = built(programs)
    assert build == (
        "buildx build --load --progress=plain --tag vllmstack/prometheus:3.5.0 --build-arg BASE=debian:trixie-slim "
        f"--label {SOURCE_LABEL}={label_of(build)} {clone.root}/docker/prometheus"
    )
    pulling, warning, building, done = capsys.readouterr().err.splitlines()
    assert pulling == "• pulling prom/prometheus:v3.5.0"
    assert warning == ("! prom/prometheus:v3.5.0 cannot be pulled (no such host): building docker/prometheus instead")
    assert building == "• building vllmstack/prometheus:3.5.0 from docker/prometheus"
    assert re.fullmatch(r"• built vllmstack/prometheus:3\.5\.0 in \d+ s", done)


def test_an_image_that_only_this_repository_makes_is_built_without_asking_a_registry(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs
) -> None:
    assert supply.provide({"gateway": OWN}) == {"gateway": OWN.reference}
    assert daemon.pulled == []
    assert len(built(programs)) == 1


def test_what_was_built_from_the_same_files_is_not_built_again(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs
) -> None:
    supply.provide({"gateway": OWN})
    daemon.images_here[OWN.reference] = {SOURCE_LABEL: label_of(built(programs)[0])}

    supply.provide({"gateway": OWN})

    assert len(built(programs)) == 1


def test_a_replacement_that_is_there_is_not_announced_again(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    supply.provide({"prometheus": UPSTREAM})
    daemon.images_here["vllmstack/prometheus:3.5.0"] = {SOURCE_LABEL: label_of(built(programs)[0])}
    capsys.readouterr()

    assert supply.provide({"prometheus": UPSTREAM}) == {"prometheus": "vllmstack/prometheus:3.5.0"}
    assert "instead" not in capsys.readouterr().err
    assert len(built(programs)) == 1


@pytest.mark.parametrize(("name", "again"), [("Dockerfile", True), ("conf/new.conf", True), ("wheels/x.whl", False)])
def test_a_changed_file_is_a_reason_to_build_again(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs, name: str, again: bool
) -> None:
    supply.provide({"gateway": OWN})
    daemon.images_here[OWN.reference] = {SOURCE_LABEL: label_of(built(programs)[0])}
    file = Path.cwd() / "docker" / "gateway" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("changed\n")

    supply.provide({"gateway": OWN})

    assert len(built(programs)) == (2 if again else 1)


def test_an_optional_image_is_left_out_with_one_line(
    supply: ImageSupply, daemon: FakeDocker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert supply.provide({"grafana": GRAFANA, "gateway": OWN}) == {"gateway": OWN.reference}
    assert (
        "! grafana/grafana:12.2.0 cannot be pulled (manifest unknown): grafana is left out, "
        "Prometheus still records everything\n"
    ) in capsys.readouterr().err


def test_an_image_that_the_stack_cannot_do_without_is_an_error(supply: ImageSupply, daemon: FakeDocker) -> None:
    daemon.registry[ENGINE.reference] = UNREACHABLE

    with pytest.raises(HostError) as caught:
        supply.provide({"engine": ENGINE})

    assert str(caught.value) == (
        "the image vllm/vllm-openai:v0.32.0 cannot be pulled: no such host\n"
        "  hint: give this machine access to the registry, `docker load` the image, or name one it can reach under "
        "`images: {engine: …}` in the deployment file"
    )


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (
            [{"status": "Pulling"}, {"error": "write /var/lib/docker/x: no space left on device"}],
            "no space left on device",
        ),
        (requests.exceptions.ConnectionError("Read timed out."), "Read timed out."),
        (docker.errors.APIError("404 Client Error", explanation="manifest unknown"), "manifest unknown"),
        (docker.errors.APIError("", explanation=""), "no reason given"),
    ],
)
def test_a_pull_that_fails_in_whatever_way_gives_its_reason(
    supply: ImageSupply, daemon: FakeDocker, answer: list[dict[str, str]] | Exception, complaint: str
) -> None:
    daemon.registry[ENGINE.reference] = answer

    with pytest.raises(HostError) as caught:
        supply.provide({"engine": ENGINE})

    assert caught.value.problems[0].fact == f"the image vllm/vllm-openai:v0.32.0 cannot be pulled: {complaint}"


def test_a_build_that_fails_shows_its_last_words_and_names_its_log(
    supply: ImageSupply, programs: Programs, clone: Clone
) -> None:
    failing = "case \"$*\" in 'buildx build '*) echo 'E: Unable to locate package nginx'; exit 1 ;; esac\n"
    programs.install("docker", failing + DOCKER_THAT_WORKS)

    with pytest.raises(HostError) as caught:
        supply.provide({"gateway": OWN})

    log = clone.project.state / ".build" / "gateway.log"
    assert str(caught.value) == (
        "building vllmstack/gateway:1.30 failed (exit 1):\n    E: Unable to locate package nginx\n"
        "  hint: check that this machine reaches Debian's packages and PyPI; a proxy is read from HTTPS_PROXY, a "
        f"company's CA from SSL_CERT_FILE (the whole output: {log})"
    )


def test_buildx_is_asked_for_only_where_an_image_must_be_built(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    programs.install("docker", f'[ "$1" = buildx ] && exit 1\n{DOCKER_THAT_WORKS}')
    daemon.images_here[ENGINE.reference] = {}

    assert supply.provide({"engine": ENGINE}) == {"engine": ENGINE.reference}
    with pytest.raises(HostError, match="has no buildx"):
        supply.provide({"gateway": OWN})


def test_proxy_ca_bundle_and_pips_configuration_go_into_the_build(
    supply: ImageSupply, programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle, pip = tmp_path / "ca.pem", tmp_path / "pip.conf"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example.org:3128")
    monkeypatch.setattr(image_supply, "_pip_config", lambda: str(pip))

    supply.provide({"gateway": OWN})

    (build,) = built(programs)
    assert "--build-arg HTTPS_PROXY " in build
    assert f"--secret id=ca_bundle,src={bundle} " in build
    assert f"--secret id=pip_config,src={pip} " in build
    # By name only: a proxy's password has no place on a command line.
    assert "secret@" not in build


def test_the_base_is_pulled_where_it_can_be(supply: ImageSupply, daemon: FakeDocker, programs: Programs) -> None:
    del daemon.images_here["debian:trixie-slim"]
    daemon.registry["debian:trixie-slim"] = [{"status": "Pull complete"}]

    supply.provide({"gateway": OWN})

    assert "--build-arg BASE=debian:trixie-slim " in built(programs)[0]


def test_a_base_that_was_made_here_before_is_used_again(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs
) -> None:
    daemon.images_here = {"vllmstack/debian:trixie": {}}

    supply.provide({"gateway": OWN})

    assert daemon.pulled == []
    assert "--build-arg BASE=vllmstack/debian:trixie " in built(programs)[0]


def test_a_base_that_cannot_be_pulled_is_made_by_root_only(
    supply: ImageSupply, daemon: FakeDocker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.images_here = {}
    daemon.registry["debian:trixie-slim"] = UNREACHABLE
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(HostError) as caught:
        supply.provide({"gateway": OWN})

    assert str(caught.value) == (
        "making a base image of Debian trixie needs root\n"
        "  hint: run as root on Debian or Ubuntu, or give this machine access to a container registry"
    )
    assert (
        "! debian:trixie-slim cannot be pulled (no such host): making vllmstack/debian:trixie with debootstrap"
        in capsys.readouterr().err
    )


def test_a_base_that_cannot_be_pulled_is_made_with_debootstrap(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.images_here = {}
    monkeypatch.setattr("os.geteuid", lambda: 0)
    programs.install("apt-get", "[ $1 = indextargets ] && echo http://deb.example.org/debian; :\n")
    for name in ("debootstrap", "find", "tar"):
        programs.install(name)

    supply.provide({"gateway": OWN})

    (call,) = programs.calls("debootstrap")
    assert re.fullmatch(r"--variant=minbase trixie \S+/root http://deb\.example\.org/debian", call)
    imported = [call for call in programs.calls("docker") if call.startswith("import ")]
    assert len(imported) == 1
    assert imported[0].endswith(" vllmstack/debian:trixie")
    assert "--build-arg BASE=vllmstack/debian:trixie " in built(programs)[0]


def test_pytorch_is_fetched_once_before_the_engines_build(
    clone: Clone, supply: ImageSupply, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "python3")
    folder = clone.root / "docker" / "gateway"
    (folder / "requirements-torch.txt").write_text("torch==2.13.0+cpu\n")
    programs.install("python3", f": > {folder}/wheels/torch-2.13.0.whl\n")

    supply.provide({"gateway": OWN})
    supply.provide({"gateway": OWN})

    (call,) = programs.calls("python3")
    assert f"--dest {folder}/wheels --requirement {folder}/requirements-torch.txt" in call


def test_without_pytorchs_index_the_larger_build_is_taken_and_said(
    clone: Clone,
    supply: ImageSupply,
    programs: Programs,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.executable", "python3")
    (clone.root / "docker" / "gateway" / "requirements-torch.txt").write_text("torch==2.13.0+cpu\n")
    programs.install("python3", "echo 'no matching distribution' >&2; exit 1\n")

    supply.provide({"gateway": OWN})

    assert len(built(programs)) == 1
    assert (clone.root / "docker" / "gateway" / "wheels").is_dir()  # the Dockerfile mounts it
    assert "! pip's configuration names no index with PyTorch's CPU build" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listed", "mirror"),
    [
        ("http://deb.example.org/debian-security\nhttp://deb.example.org/debian/\n", "http://deb.example.org/debian/"),
        ("http://deb.example.org/debian\n", "http://deb.example.org/debian"),
        ("http://archive.example.org/ubuntu\n", ""),
        ("", ""),
    ],
)
def test_the_mirror_is_the_one_that_apt_uses(programs: Programs, listed: str, mirror: str) -> None:
    programs.install("apt-get", f"printf '%s' '{listed}'\n")

    assert debian_mirror() == mirror


def test_a_replacement_never_bears_the_upstreams_name() -> None:
    assert replacement("prometheus", UPSTREAM) == "vllmstack/prometheus:3.5.0"


def test_the_users_ca_bundle_goes_before_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own, system = tmp_path / "own.pem", tmp_path / "system.pem"
    own.touch()
    system.touch()
    monkeypatch.setattr(image_supply, "CA_BUNDLES", (str(tmp_path / "nowhere"), str(system)))

    assert ca_bundle() == str(system)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    assert ca_bundle() == str(system)
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert ca_bundle() == str(own)


@pytest.mark.parametrize(
    ("complaint", "short"),
    [
        ('Get "https://registry.example.org/v2/": dial tcp: lookup registry.example.org: no such host', "no such host"),
        ("first line\ntoomanyrequests: slow down", "slow down"),
        ("denied", "denied"),
        ("x" * 300, "x" * 100),
        ("", "no reason given"),
    ],
)
def test_a_registrys_complaint_is_cut_down_to_what_it_says(complaint: str, short: str) -> None:
    assert image_supply._short(complaint) == short


def test_what_would_run_is_foreseen_without_bringing_anything_here(
    supply: ImageSupply, daemon: FakeDocker, programs: Programs
) -> None:
    images = {"prometheus": UPSTREAM, "gateway": OWN, "engine": ENGINE, "grafana": GRAFANA}
    daemon.images_here["vllmstack/prometheus:3.5.0"] = {}

    assert supply.foresee(images) == {
        "prometheus": "vllmstack/prometheus:3.5.0",
        "gateway": OWN.reference,
        "engine": ENGINE.reference,
    }
    daemon.images_here |= {UPSTREAM.reference: {}, GRAFANA.reference: {}}
    assert supply.foresee(images) == {name: image.reference for name, image in images.items()}
    assert daemon.pulled == []
    assert built(programs) == []


def test_an_images_id_is_known_while_it_would_not_be_built_again(
    supply: ImageSupply, daemon: FakeDocker, clone: Clone
) -> None:
    assert supply.identity(OWN.reference, OWN) == ""
    supply.provide({"gateway": OWN})
    daemon.images_here[OWN.reference] = {SOURCE_LABEL: supply._digest(OWN.build)} if OWN.build else {}

    assert supply.identity(OWN.reference, OWN) == f"id of {OWN.reference}"
    (clone.root / "docker" / "gateway" / "Dockerfile").write_text("FROM scratch # changed\n")
    assert supply.identity(OWN.reference, OWN) == ""


def test_an_image_that_was_pulled_has_its_id_whatever_is_built_here(supply: ImageSupply, daemon: FakeDocker) -> None:
    daemon.images_here[UPSTREAM.reference] = {}

    assert supply.identity(UPSTREAM.reference, UPSTREAM) == f"id of {UPSTREAM.reference}"
