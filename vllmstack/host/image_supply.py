"""Images on this machine: taken as they are, pulled, or built from this repository when no registry can be reached."""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests.exceptions

from vllmstack.console import step, warn
from vllmstack.errors import HostError, Problem
from vllmstack.host.docker_engine import ensure
from vllmstack.host.processes import run
from vllmstack.images import Build, Image
from vllmstack.project import Project

SOURCE_LABEL = "vllmstack.source"
"""Digest of what an image was built from: a changed Dockerfile is built again, an unchanged one is not."""

CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
PULL_LINE_SECONDS = 10.0
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class ImageSupply:
    """Brings images onto the machine that ``client`` talks to."""

    def __init__(self, project: Project, client: docker.DockerClient) -> None:
        self._project = project
        self._client = client

    def provide(self, images: Mapping[str, Image]) -> dict[str, str]:
        """The reference to run, by image name. A name that is missing has been left out, and a line said so.

        Raises:
            HostError: an image that the stack cannot do without could be neither pulled nor built.
        """
        provided = {}
        for name, image in images.items():
            reference = self._provide(name, image)
            if reference:
                provided[name] = reference
        return provided

    def foresee(self, images: Mapping[str, Image]) -> dict[str, str]:
        """What :meth:`provide` would give as far as that can be said without pulling or building anything."""
        foreseen = {}
        for name, image in images.items():
            if not image.pulled or self._has(image.reference):
                foreseen[name] = image.reference
            elif image.build and self._has(replacement(name, image)):
                foreseen[name] = replacement(name, image)
            elif name not in OPTIONAL:
                foreseen[name] = image.reference
        return foreseen

    def identity(self, reference: str, image: Image) -> str:
        """The id of the image on this machine; empty if it is not there, or would be built again."""
        try:
            found = self._client.images.get(reference)
        except docker.errors.ImageNotFound:
            return ""
        built_here = image.build is not None and (not image.pulled or reference != image.reference)
        if built_here and image.build and found.labels.get(SOURCE_LABEL) != self._digest(image.build):
            return ""
        return str(found.id)

    def _provide(self, name: str, image: Image) -> str | None:
        complaint = ""
        if image.pulled:
            if self._has(image.reference):
                return image.reference
            complaint = self._pull(image.reference)
            if not complaint:
                return image.reference
        if image.build:
            reference = image.reference if not image.pulled else replacement(name, image)
            if complaint and not self._is_built(reference, self._digest(image.build)):
                warn(f"{image.reference} cannot be pulled ({complaint}): building docker/{image.build.folder} instead")
            self._build(reference, image.build)
            return reference
        if name in OPTIONAL:
            warn(f"{image.reference} cannot be pulled ({complaint}): {name} is left out, {OPTIONAL[name]}")
            return None
        raise HostError(
            Problem(
                fact=f"the image {image.reference} cannot be pulled: {complaint}",
                hint=f"give this machine access to the registry, `docker load` the image, or name one it can reach "
                f"under `images: {{{name}: …}}` in the deployment file",
            )
        )

    def _has(self, reference: str) -> bool:
        try:
            self._client.images.get(reference)
        except docker.errors.ImageNotFound:
            return False
        return True

    def _is_built(self, reference: str, digest: str) -> bool:
        try:
            labels = self._client.images.get(reference).labels
        except docker.errors.ImageNotFound:
            return False
        return labels.get(SOURCE_LABEL) == digest

    def _pull(self, reference: str) -> str:
        """Empty if the image is there now, else why not, in one line."""
        step(f"pulling {reference}")
        try:
            for event in _told(reference, self._client.api.pull(reference, stream=True, decode=True)):
                if "error" in event:
                    return _short(str(event["error"]))
        except docker.errors.APIError as error:
            return _short(str(error.explanation or error))
        except requests.exceptions.RequestException as error:
            return _short(str(error))
        return ""

    def _digest(self, build: Build) -> str:
        folder = self._project.root / "docker" / build.folder
        digest = hashlib.sha256(build.base.encode())
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".whl"):
            digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()

    def _build(self, reference: str, build: Build) -> None:
        digest = self._digest(build)
        if self._is_built(reference, digest):
            return
        ensure(building=True)
        base = self._base(build.base)
        folder = self._project.root / "docker" / build.folder
        if (folder / "requirements-torch.txt").is_file():
            _fetch_torch(folder)
        started = time.monotonic()
        step(f"building {reference} from docker/{build.folder}")
        command = ["docker", "buildx", "build", "--load", "--progress=plain", "--tag", reference]
        command += ["--build-arg", f"BASE={base}", "--label", f"{SOURCE_LABEL}={digest}"]
        for variable in PROXY_VARIABLES:
            if os.environ.get(variable):
                command += ["--build-arg", variable]
        for secret, file in (("ca_bundle", ca_bundle()), ("pip_config", _pip_config())):
            if file:
                command += ["--secret", f"id={secret},src={file}"]
        log = self._project.state / ".build" / f"{build.folder}.log"
        run(
            [*command, str(folder)],
            doing=f"building {reference}",
            hint="check that this machine reaches Debian's packages and PyPI; a proxy is read from HTTPS_PROXY, a "
            "company's CA from SSL_CERT_FILE",
            log=log,
        )
        step(f"built {reference} in {time.monotonic() - started:.0f} s")

    def _base(self, release: str) -> str:
        """Debian's own image, or one made by debootstrap where it cannot be pulled."""
        official, own = f"debian:{release}-slim", f"vllmstack/debian:{release}"
        if self._has(official):
            return official
        if self._has(own):
            return own
        complaint = self._pull(official)
        if not complaint:
            return official
        warn(f"{official} cannot be pulled ({complaint}): making {own} with debootstrap")
        self._debootstrap(release, own)
        return own

    def _debootstrap(self, release: str, reference: str) -> None:
        hint = "run as root on Debian or Ubuntu, or give this machine access to a container registry"
        if os.geteuid() != 0:
            raise HostError(Problem(fact=f"making a base image of Debian {release} needs root", hint=hint))
        if not Path("/usr/sbin/debootstrap").exists():
            run(["apt-get", "update", "-qq"], doing="apt-get update", hint=hint)
            run(
                ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "debootstrap"],
                doing="installing debootstrap",
                hint=hint,
                environment={"DEBIAN_FRONTEND": "noninteractive"},
            )
        mirror = debian_mirror()
        with tempfile.TemporaryDirectory(prefix="vllmstack-base-") as folder:
            root, archive = Path(folder) / "root", Path(folder) / "root.tar"
            log = self._project.state / ".build" / f"debian-{release}.log"
            run(
                ["debootstrap", "--variant=minbase", release, str(root), mirror],
                doing=f"debootstrap {release}",
                hint=hint,
                log=log,
            )
            for part in ("var/cache/apt/archives", "var/lib/apt/lists"):
                run(["find", str(root / part), "-type", "f", "-delete"], doing="trimming the base image", hint=hint)
            run(["tar", "-C", str(root), "-cf", str(archive), "."], doing="packing the base image", hint=hint)
            run(["docker", "import", str(archive), reference], doing=f"importing {reference}", hint=hint)


def _told(reference: str, events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events of a pull, as they come, with a line of bytes about every PULL_LINE_SECONDS: an engine is 20 GB."""
    layers: dict[str, tuple[int, int]] = {}
    told = time.monotonic()
    for event in events:
        detail = event.get("progressDetail") or {}
        if event.get("status") == "Downloading" and detail.get("total"):
            layers[event["id"]] = (detail["current"], detail["total"])
        elif event.get("status") == "Download complete" and event.get("id") in layers:
            total = layers[event["id"]][1]
            layers[event["id"]] = (total, total)
        if layers and time.monotonic() - told >= PULL_LINE_SECONDS:
            told = time.monotonic()
            done, total = (sum(parts) / 1e9 for parts in zip(*layers.values(), strict=True))
            step(f"pulling {reference}: {done:.1f} of {total:.1f} GB")
        yield event


OPTIONAL = {"grafana": "Prometheus still records everything"}
"""What the stack runs without, and what is said when it has to."""


def replacement(name: str, image: Image) -> str:
    """What a built replacement is called: never the upstream's name, which it is not."""
    return f"vllmstack/{name}:{image.reference.rpartition(':')[2].removeprefix('v')}"


def ca_bundle() -> str | None:
    """The machine's CA bundle, a company's own authority in it."""
    candidates = (os.environ.get("SSL_CERT_FILE"), os.environ.get("PIP_CERT"), *CA_BUNDLES)
    return next((file for file in candidates if file and Path(file).is_file()), None)


def debian_mirror() -> str:
    """The mirror that this machine's apt uses for Debian; on Ubuntu and elsewhere debootstrap's own default (empty)."""
    listed = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        doing="reading apt's sources",
        hint="run on Debian or Ubuntu",
    )
    return next((uri for uri in listed.splitlines() if uri.rstrip("/").endswith("/debian")), "")


def _pip_config() -> str | None:
    candidates = (os.environ.get("PIP_CONFIG_FILE"), "~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/pip.conf")
    files = (Path(file).expanduser() for file in candidates if file)
    return next((str(file) for file in files if file.is_file() and file.stat().st_size), None)


def _fetch_torch(folder: Path) -> None:
    """PyTorch's CPU build into ``wheels/``, from wherever this machine's pip is configured to find it."""
    wheels = folder / "wheels"
    wheels.mkdir(exist_ok=True)  # the Dockerfile mounts it, empty or not
    if any(wheels.glob("torch-*.whl")):
        return
    step("fetching PyTorch's CPU build")
    try:
        run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
             "--python-version=3.11", "--platform=manylinux_2_28_x86_64", "--require-hashes", "--dest", str(wheels),
             "--requirement", str(folder / "requirements-torch.txt")],
            doing="fetching PyTorch's CPU build",
            hint="",
        )  # fmt: skip
    except HostError:
        warn(
            "pip's configuration names no index with PyTorch's CPU build: taking PyPI's build with CUDA libraries, "
            "3 GB more (to avoid it, add PyTorch's CPU index to pip's extra-index-url)"
        )


def _short(complaint: str) -> str:
    """A registry's complaint without the address it was sent to, which says little."""
    last = (complaint.strip() or "no reason given").splitlines()[-1]
    return last.rpartition(": ")[2][:100] if ": " in last else last[:100]
