"""`vllmstack load BUNDLE`: everything verified, brought onto this host, and started as `vllmstack up` starts it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import docker
import yaml
from pydantic import ValidationError

from vllmstack import __version__
from vllmstack.bundle.archive import ArchiveReader, Verified, counted
from vllmstack.bundle.contents import key_file, receiver_files, tls_files
from vllmstack.bundle.manifest import CHECKSUMS, DEPLOYMENT, BundledImage
from vllmstack.commands.byte_progress import byte_progress
from vllmstack.commands.preparation import shown_path
from vllmstack.commands.up import bring_up
from vllmstack.console import step, warn
from vllmstack.deployment.model import Deployment
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.host.bundle_files import appearing_whole, write_member
from vllmstack.host.bundle_images import SILENT_SECONDS, LoadedImages, missing
from vllmstack.host.change_lock import changing
from vllmstack.host.containers import connect
from vllmstack.host.disk_space import docker_root, require_space
from vllmstack.host.docker_engine import ensure
from vllmstack.host.image_supply import ImageSupply
from vllmstack.host.key_file import change_keys
from vllmstack.host.secret_files import ALERTS
from vllmstack.images import load_images
from vllmstack.project import Project, find_project


def load_bundle(file: Path) -> None:
    """From a bundle's file to a deployment that answers; without any network.

    Raises:
        InvalidInput: the file is no bundle, or not a whole one; nothing was changed.
        HostError: this host lacks room, or what does not travel; nothing of the bundle was kept.
    """
    project = find_project()
    with _opened(file) as stream:
        reader = ArchiveReader(stream, str(file))
        with byte_progress("verifying", file.stat().st_size) as moved:
            bundle = reader.verify(moved)
        deployment = _deployment(file, bundle)
        images = bundle.manifest.images
        gigabytes = sum(one.size_bytes for one in bundle.manifest.unpacked_files) / 1e9
        step(
            f"{file}: {deployment.name}, made {bundle.manifest.made}, {len(images)} images, {gigabytes:.2f} GB of "
            f"weights, identity {bundle.identity}: whole"
        )
        _refuse_without_secrets(project, deployment)
        ensure()
        client = connect(SILENT_SECONDS)
        with changing(project, "load"):
            folder = project.bundles / f"{deployment.name}-{bundle.identity}"
            _bring(reader, bundle, folder, client)
            _prepare_key_file(project, deployment)
    _warn_of_another_version(project, bundle, client)
    shown = shown_path(folder / f"{deployment.name}.yaml")
    step(f"from now on `vllmstack up {shown}` starts it")
    bring_up(shown)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        if not file.is_file():
            fact = "is a folder" if file.is_dir() else "there is no such file"
            hint = "name a file that `vllmstack bundle` wrote; a load test takes its scenario by `--scenario`"
            raise InvalidInput(Problem(file=str(file), fact=fact, hint=hint))
        stream = file.open("rb")
    except OSError as error:
        fact = f"cannot be read: {error.strerror}"
        raise InvalidInput(Problem(file=str(file), fact=fact, hint="check its permissions")) from None
    with stream:
        yield stream


def _deployment(file: Path, bundle: Verified) -> Deployment:
    """As the bundle has it; whether its paths lead somewhere is seen when it is unpacked."""
    try:
        return Deployment.model_validate(yaml.safe_load(bundle.deployment_text))
    except (ValidationError, yaml.YAMLError):
        made_by = bundle.manifest.vllmstack
        raise InvalidInput(
            Problem(
                file=str(file),
                place=DEPLOYMENT,
                fact=f"is no deployment file of vllmstack {__version__}",
                hint=f"load it with vllmstack {made_by}, which made it",
            )
        ) from None


def _refuse_without_secrets(project: Project, deployment: Deployment) -> None:
    wanted = [project.secrets / name for name in tls_files(deployment)] if deployment.gateway.tls else []
    problems = [
        Problem(
            file=shown_path(path),
            fact="is missing: certificates and keys do not travel in a bundle",
            hint="put this host's own there (PEM); the deployment speaks HTTPS",
        )
        for path in wanted
        if not path.is_file()
    ]
    if problems:
        raise HostError(problems)
    lacking = [name for name in receiver_files(deployment) if not (project.secrets / ALERTS / name).is_file()]
    if lacking:
        warn(f"alerts reach nobody before secrets/{ALERTS}/ has {', '.join(lacking)}")


def _bring(reader: ArchiveReader, bundle: Verified, folder: Path, client: docker.DockerClient) -> None:
    """Files and images that are not here yet; all of them, or none."""
    manifest = bundle.manifest
    absent = {image.member: image for image in missing(client, manifest.images)}
    here = _is_unpacked(folder, bundle)
    sizes = [image.size_bytes for image in absent.values()]
    # `docker load` unpacks an image twice: as it came, and as layers.
    needed = {docker_root(client): sum(sizes) + max(sizes, default=0)}
    if not here:
        needed[folder.parent] = sum(one.size_bytes for one in manifest.unpacked_files)
    require_space(needed)
    total = sum(needed.values()) - max(sizes, default=0)
    wanted = {one.path for one in manifest.unpacked_files}
    loaded = LoadedImages(client)
    try:
        with contextlib.ExitStack() as whole, byte_progress("loading", total) as moved:
            part = None if here else whole.enter_context(_new_folder(folder))
            for path, _, chunks in reader.members():
                if path == CHECKSUMS:
                    break  # what another program appends meanwhile was never verified
                if path in absent:
                    _load_image(loaded, absent[path], chunks)
                    moved(absent[path].size_bytes)
                elif part and path == DEPLOYMENT:
                    write_member(part / f"{manifest.deployment}.yaml", chunks)
                elif part and path in wanted:
                    write_member(part / path, counted(chunks, moved))
    except BaseException:
        loaded.undo()
        raise


def _load_image(loaded: LoadedImages, image: BundledImage, chunks: Iterator[bytes]) -> None:
    step(f"loading {image.reference}, {image.size_bytes / 1e9:.2f} GB")
    loaded.load(image, chunks)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    with appearing_whole(folder) as part:
        part.mkdir(parents=True)
        yield part
        for one in (part, *(path for path in part.rglob("*") if path.is_dir())):
            one.chmod(0o755)  # containers enter them as other users, whatever this one's umask is


def _is_unpacked(folder: Path, bundle: Verified) -> bool:
    """Whether this very bundle was loaded before; its deployment file may have been changed since, and stays so.

    Raises:
        HostError: the folder is there, and files in it are not those of the bundle.
    """
    if not folder.is_dir():
        return False
    files = [folder / one.path for one in bundle.manifest.unpacked_files]
    sizes = [one.size_bytes for one in bundle.manifest.unpacked_files]
    changed = [
        file for file, size in zip(files, sizes, strict=True) if not file.is_file() or file.stat().st_size != size
    ]
    deployment_file = folder / f"{bundle.manifest.deployment}.yaml"
    if changed or not deployment_file.is_file():
        raise HostError(
            Problem(
                file=shown_path((changed or [deployment_file])[0]),
                fact="is not what the bundle has, which was loaded into this folder before",
                hint=f"move {shown_path(folder)} away, and load the bundle again",
            )
        )
    if deployment_file.read_text() != bundle.deployment_text:
        warn(f"{shown_path(deployment_file)} was changed since the bundle was loaded first: it is taken as it is")
    return True


def _prepare_key_file(project: Project, deployment: Deployment) -> None:
    """Nobody's key travels: a list without any, until `vllmstack keys add` writes to it."""
    if deployment.gateway.api_keys_file:
        project.secrets.mkdir(mode=0o700, exist_ok=True)
        file = project.secrets / key_file(deployment)
        change_keys(file, shown_path(file), lambda keys: keys)


def _warn_of_another_version(project: Project, bundle: Verified, client: docker.DockerClient) -> None:
    """Images that this repository builds must fit the files that it renders and mounts."""
    known = load_images(project.images_file).images
    supply = ImageSupply(project, client)
    other = [
        image.reference
        for image in bundle.manifest.images
        if image.name in known
        and image.reference.startswith("vllmstack/")
        and not supply.identity(image.reference, known[image.name].model_copy(update={"pulled": False}))
    ]
    if other:
        theirs = bundle.manifest.commit or bundle.manifest.vllmstack
        warn(
            f"{', '.join(other)}: made from other files than docker/ has in this clone; take the clone that the bundle "
            f"was made with ({theirs}), or bundle anew with this one"
        )
