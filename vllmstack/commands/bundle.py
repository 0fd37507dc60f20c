"""`vllmstack bundle`: a deployment with its weights and images in one file, for a host without any network."""

import contextlib
import datetime
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
import docker

from vllmstack import __version__
from vllmstack.bundle.archive import ArchiveWriter, Source, counted
from vllmstack.bundle.compression import gzipped
from vllmstack.bundle.contents import (
    WEIGHTS_INDEX,
    Folder,
    changed_values,
    folders_of,
    missing_weights,
    receiver_files,
    tls_files,
)
from vllmstack.bundle.deployment_text import with_values
from vllmstack.bundle.manifest import CLONE, DEPLOYMENT, MANIFEST, SUFFIX, BundledFile, BundledImage, Manifest
from vllmstack.commands.byte_progress import byte_progress
from vllmstack.commands.preparation import default_deployment, load_deployment
from vllmstack.console import out, step
from vllmstack.deployment.model import Deployment
from vllmstack.errors import InvalidInput, Problem
from vllmstack.host.bundle_files import appearing_whole, clone_files, fetched_wheels, folder_files
from vllmstack.host.bundle_images import SILENT_SECONDS, look_at, saved
from vllmstack.host.containers import connect
from vllmstack.host.disk_space import docker_root, require_space
from vllmstack.host.docker_engine import ensure
from vllmstack.host.hub_volume import HubVolume
from vllmstack.host.image_supply import ImageSupply
from vllmstack.host.inventory import see_inventory
from vllmstack.host.loadtest_container import commit
from vllmstack.host.model_lock_file import read_lock
from vllmstack.host.processes import interruptible
from vllmstack.images import MODELS_IMAGE, images_for, load_images
from vllmstack.project import Project, find_project


@dataclass(frozen=True, kw_only=True)
class _Filled:
    """A folder of the archive, with what is in it."""

    folder: Folder
    origin: str
    """The folder, or the hub id with the commit that was found."""
    sources: tuple[Source, ...]


@click.command("bundle")
@click.argument("name", required=False)
@click.option(
    "--output", "-o", metavar="FILE", type=click.Path(path_type=Path), help=f"Where to write it.  [NAME{SUFFIX}]"
)
@click.option("--with-loadtest", is_flag=True, help="Put in the load test's image too.")
@click.option("--with-project", is_flag=True, help="Put in this clone and its Python packages too.")
def command(name: str | None, *, output: Path | None, with_loadtest: bool, with_project: bool) -> None:
    """Write a deployment, its weights and its images into one file.

    `vllmstack load FILE` brings it up on a host without any network. NAME is as
    for `vllmstack up`. Images that are missing here are pulled or built first.
    Secrets do not travel: keys, certificates and hub tokens stay here.
    """
    started = time.monotonic()
    project = find_project()
    file, deployment = load_deployment(project, name or default_deployment(see_inventory()))
    target = output or Path(f"{deployment.name}{SUFFIX}")
    _refuse_target(target)
    folders = folders_of(deployment, read_lock(Path(file).parent), file)
    local = [_local(folder, file) for folder in folders if folder.directory]
    clone = clone_files(project) if with_project else []
    ensure()
    client = connect(SILENT_SECONDS)
    with interruptible(), contextlib.ExitStack() as until_written:
        images = _images(project, deployment, client, with_loadtest=with_loadtest)
        volume = until_written.enter_context(HubVolume(client, images[0].id))
        filled = [*local, *(_fetched(folder, volume, file) for folder in folders if folder.wish)]
        sources = [source for one in filled for source in one.sources]
        if with_project:
            wheels = Path(until_written.enter_context(tempfile.TemporaryDirectory(prefix="vllmstack-wheels-")))
            step("fetching the Python packages of requirements.txt")
            sources = [*clone, *fetched_wheels(project, wheels), *sources]
        manifest = Manifest(
            vllmstack=__version__,
            commit=commit(project),
            made=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
            deployment=deployment.name,
            origins={one.folder.archived_as: one.origin for one in filled},
            images=images,
            files=tuple(BundledFile(path=one.path, size_bytes=one.size_bytes) for one in sources),
        )
        text = _deployment_text(Path(file), deployment, manifest)
        identity = _write(target, manifest, text, sources, client)
    seconds = time.monotonic() - started
    step(f"{target}: {target.stat().st_size / 1e9:.2f} GB in {seconds:.0f} s, identity {identity}")
    _farewell(target, deployment, with_project=with_project)


def _refuse_target(target: Path) -> None:
    try:
        is_there, has_folder = target.exists(), target.absolute().parent.is_dir()
    except OSError as error:
        fact = f"cannot be written: {error.strerror}"
        raise InvalidInput(Problem(file=str(target), fact=fact, hint="name another file by --output")) from None
    if is_there:
        hint = "remove it, or name another file by --output"
        raise InvalidInput(Problem(file=str(target), fact="is there already", hint=hint))
    if not has_folder:
        raise InvalidInput(
            Problem(file=str(target), fact="its folder is not there", hint="make the folder, or name another file")
        )


def _local(folder: Folder, file: str) -> _Filled:
    assert folder.directory  # noqa: S101 - asked for by the caller
    return _filled(folder, str(folder.directory), folder_files(folder.directory), file)


def _fetched(folder: Folder, volume: HubVolume, file: str) -> _Filled:
    assert folder.wish  # noqa: S101 - asked for by the caller
    snapshot = volume.snapshot(folder.wish)
    return _filled(folder, f"{snapshot.hub}@{snapshot.commit}", snapshot.files, file)


def _filled(folder: Folder, origin: str, found: tuple[Source, ...] | list[Source], file: str) -> _Filled:
    indexes = {one.path: b"".join(one.read()).decode(errors="replace") for one in found if one.path in WEIGHTS_INDEX}
    lacking = missing_weights([one.path for one in found], indexes)
    if lacking:
        raise InvalidInput(
            Problem(
                file=file,
                place=folder.place,
                fact=f"{folder.described} lacks {lacking[0]}{' and more' if len(lacking) > 1 else ''}, which its index "
                "lists: its download did not end",
                hint="download it again",
            )
        )
    return _Filled(
        folder=folder,
        origin=origin,
        sources=tuple(replace(one, path=f"{folder.archived_as}/{one.path}", executable=False) for one in found),
    )


def _images(
    project: Project, deployment: Deployment, client: docker.DockerClient, *, with_loadtest: bool
) -> tuple[BundledImage, ...]:
    wanted = images_for(deployment, load_images(project.images_file))
    # On the other host models of the hub are folders, which nothing has to fetch.
    chosen = {
        key: image for key, image in wanted.items() if key != MODELS_IMAGE and (with_loadtest or not image.on_demand)
    }
    return look_at(client, ImageSupply(project, client).provide(chosen))


def _deployment_text(file: Path, deployment: Deployment, manifest: Manifest) -> str:
    references = {image.name: image.reference for image in manifest.images}
    came_from = "".join(f"#   {path}: {origin}\n" for path, origin in manifest.origins.items())
    head = (
        f"# From a bundle made {manifest.made} by vllmstack {manifest.vllmstack}: weights are beside this file and\n"
        "# images are named, so that nothing is pulled, built or downloaded. Weights came from\n"
        f"{came_from}\n"
    )
    return head + with_values(file.read_text("utf-8-sig"), changed_values(deployment, references))


def _write(
    target: Path, manifest: Manifest, deployment_text: str, sources: list[Source], client: docker.DockerClient
) -> str:
    image_bytes = [image.size_bytes for image in manifest.images]
    file_bytes = sum(source.size_bytes for source in sources)
    # The daemon lays an image out on its own disk before it gives it.
    require_space({target.absolute().parent: sum(image_bytes) + file_bytes, docker_root(client): max(image_bytes)})
    made = datetime.datetime.fromisoformat(manifest.made).timestamp()
    with (
        appearing_whole(target) as part,
        part.open("xb") as stream,
        byte_progress("bundling", sum(image_bytes) + file_bytes) as moved,
    ):
        writer = ArchiveWriter(stream, made=made)
        writer.add(MANIFEST, [manifest.text().encode()])
        writer.add(DEPLOYMENT, [deployment_text.encode()])
        for one in sources:
            mode = 0o755 if one.executable else 0o644
            writer.add(one.path, counted(one.read(), moved), size_bytes=one.size_bytes, mode=mode)
        for image in manifest.images:
            step(f"saving {image.reference}, {image.size_bytes / 1e9:.2f} GB unpacked")
            writer.add(image.member, gzipped(counted(saved(client, image), moved)))
        identity = writer.finish()
        stream.flush()
        os.fsync(stream.fileno())
    return identity


def _farewell(target: Path, deployment: Deployment, *, with_project: bool) -> None:
    """What is to be typed on the other host, and what it must have that does not travel."""
    if deployment.gateway.tls:
        own = " and ".join(f"secrets/{name}" for name in tls_files(deployment))
        step(f"the certificate and its key stay here: the other host needs {own} of its own")
    if deployment.gateway.api_keys_file:
        step("API keys stay here: `vllmstack load` says there how to make new ones")
    if files := receiver_files(deployment):
        step(f"secrets of receivers stay here: the other host needs below secrets/alerts/ {', '.join(files)}")
    out.print("\non the other host:\n")
    lines = [f"vllmstack load {target.name}"]
    if with_project:
        lines = [
            f"tar -xf {target.name} {CLONE} && cd {CLONE} && scripts/bootstrap.sh",
            f".venv/bin/vllmstack load ../{target.name}",
        ]
    for line in lines:
        out.print(line, soft_wrap=True, markup=False)
