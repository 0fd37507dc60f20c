"""Where the volume of models keeps what: names alone, for whoever reads it, in a container or through one.

The cache is huggingface_hub's own ("Understand caching"), so that vLLM finds in it what it asks for offline:

    hub/models--ORG--NAME/blobs/DIGEST             a file's content; DIGEST.part while it is fetched
    hub/models--ORG--NAME/snapshots/COMMIT/PATH    links to blobs
    hub/models--ORG--NAME/refs/REVISION            the commit that a branch or tag stood for
    manifests/models--ORG--NAME/COMMIT.json        ours: the files of a snapshot, written when all of them were checked

A snapshot without its manifest does not count as present.
"""

from pathlib import PurePosixPath

ENGINE_HOME = PurePosixPath("/var/cache/vllmstack/hub")
"""HF_HOME of the engines (docker/engine/service.yaml), where the volume is mounted."""
CACHE = PurePosixPath("hub")
"""Of huggingface_hub, below HF_HOME."""
MANIFESTS = PurePosixPath("manifests")
REPOSITORIES = "models--*"


def repository(hub: str) -> PurePosixPath:
    """The folder of a repository, below the cache; of its manifests too."""
    return PurePosixPath(f"models--{hub.replace('/', '--')}")


def hub_id(folder_name: str) -> str:
    """The repository that a folder is of."""
    organisation, _, name = folder_name.removeprefix("models--").partition("--")
    return f"{organisation}/{name}"


def blobs(hub: str) -> PurePosixPath:
    """The folder of contents, below the cache."""
    return repository(hub) / "blobs"


def refs(hub: str) -> PurePosixPath:
    """The folder of branches and tags, below the cache: each a file with its commit."""
    return repository(hub) / "refs"


def snapshots(hub: str) -> PurePosixPath:
    """The folder of snapshots, below the cache: each a folder with its commit's name."""
    return repository(hub) / "snapshots"


def manifest(hub: str, commit: str) -> PurePosixPath:
    """The manifest of a snapshot, below HF_HOME."""
    return MANIFESTS / repository(hub) / f"{commit}.json"


def engine_folder(hub: str, commit: str) -> str:
    """A snapshot as an engine's container has it, for what vLLM takes no revision for."""
    return str(ENGINE_HOME / CACHE / snapshots(hub) / commit)
