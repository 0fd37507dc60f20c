"""``bundle.json``, a bundle's first member: which deployment it holds, its images, and every file with its size.

The archive is a plain tar: weights do not compress, images are compressed one by one, and both can be taken out with
nothing but `tar`. Its last member, ``SHA256SUMS``, has sha256sum's own form.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vllmstack.deployment.model import Name
from vllmstack.errors import InvalidInput, Problem
from vllmstack.plain_path import is_plain_path

FORMAT = 1
"""Raised when an older vllmstack could not read what a newer one writes."""
MANIFEST = "bundle.json"
DEPLOYMENT = "deployment.yaml"
CHECKSUMS = "SHA256SUMS"
IMAGES, MODELS, ADAPTERS, CLONE = "images", "models", "adapters", "vllmstack"
"""Folders inside the archive; the last one is a clone of vllmstack, which nothing but `tar` unpacks."""
SUFFIX = ".bundle.tar"
LARGEST_TEXT_BYTES = 64 << 20
"""Of manifest and checksums, each: a quarter of a million files."""
COPY_AGAIN = "copy the bundle again; `sha256sum` of it on both hosts tells whether the copies agree"


def _plain(path: str) -> str:
    if not is_plain_path(path):
        raise ValueError(f"{path!r} is no path inside a bundle")
    return path


MemberPath = Annotated[str, AfterValidator(_plain)]


class Part(BaseModel):
    """Base of every section; what a bundle of this format does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BundledFile(Part):
    """A file that is unpacked as it is."""

    path: MemberPath
    size_bytes: int = Field(ge=0)


class BundledImage(Part):
    """An image, as `docker save` writes it, in gzip."""

    name: str
    """Of docker/images.yaml."""
    reference: str
    """What it is called on the other host, and in the bundle's deployment file."""
    id: str
    layers: tuple[str, ...]
    """Digests of its layers: the same in every kind of image store, which the id is not."""
    configuration: str = ""
    """SHA-256 of what a container is started with: environment, entrypoint and so on. It is the same in every kind of
    image store, too. Empty in a bundle of an older release: there the id alone tells."""
    size_bytes: int = Field(ge=0)
    """Unpacked."""

    @property
    def member(self) -> str:
        """Where it lies in the archive."""
        return f"{IMAGES}/{self.name}.tar.gz"


class Manifest(Part):
    """The file's contents."""

    format: Literal[1] = 1
    vllmstack: str
    commit: str
    """Of the clone; empty where it had none."""
    made: str
    """RFC 3339, in UTC."""
    deployment: Name
    origins: dict[str, str]
    """Where weights came from, by the archive's folder: a hub id with its commit, or a folder of the first host."""
    images: tuple[BundledImage, ...]
    files: tuple[BundledFile, ...]
    """Of models, adapters and the clone."""

    @property
    def unpacked_files(self) -> tuple[BundledFile, ...]:
        """Without the clone's."""
        return tuple(file for file in self.files if PurePosixPath(file.path).parts[0] in (MODELS, ADAPTERS))

    @property
    def members(self) -> frozenset[str]:
        """Every name that the archive has beside those of manifest and checksums."""
        return frozenset({DEPLOYMENT, *(image.member for image in self.images), *(file.path for file in self.files)})

    def text(self) -> str:
        """As it is written."""
        return self.model_dump_json(indent=1) + "\n"


def read_manifest(text: bytes, file: str) -> Manifest:
    """The manifest of the bundle ``file``.

    Raises:
        InvalidInput: it is none, or one of another format.
    """
    try:
        head = _Head.model_validate_json(text)
    except ValidationError:
        raise InvalidInput(Problem(file=file, place=MANIFEST, fact="cannot be read", hint=COPY_AGAIN)) from None
    if head.format != FORMAT:
        raise InvalidInput(
            Problem(
                file=file,
                fact=f"has format {head.format}, and this vllmstack reads format {FORMAT}",
                hint=f"load it with vllmstack {head.vllmstack}, which made it, or make it again with this one",
            )
        )
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"])
        raise InvalidInput(
            Problem(file=file, place=f"{MANIFEST}: {where}", fact=first["msg"].lower(), hint=COPY_AGAIN)
        ) from None


class _Head(BaseModel):
    format: int
    vllmstack: str


def not_a_bundle(file: str) -> Problem:
    """What is said of any other file."""
    return Problem(
        file=file,
        fact=f"is no bundle: it does not begin with {MANIFEST}",
        hint="name a file that `vllmstack bundle` wrote; a load test takes its scenario by `--scenario`",
    )
