"""A Docker daemon that keeps, saves and loads images, and a volume that is read through a container never started."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors

from tests.unit.fake_docker import FakeDocker


@dataclass
class StoredImage:
    """One image; names are the store's."""

    id: str
    layers: list[str]
    size: int = 1000
    labels: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def attrs(self) -> dict[str, Any]:
        return {"Size": self.size, "RootFS": {"Type": "layers", "Layers": self.layers}, "Config": self.config}


class ImageStore(FakeDocker):
    """``store`` has images by reference."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.store: dict[str, StoredImage] = {}
        self.loads: list[str] = []
        """References that came by load."""
        self.load_fails: dict[str, str] = {}
        """What the daemon says instead of loading this reference."""
        self.ids_change = False
        """Another kind of image store: the same layers under other ids."""
        self.volumes_here: dict[str, Path] = {}
        self.containers_left = 0
        self.images = SimpleNamespace(get=self._stored, list=self._images, remove=self._remove)
        self.api = SimpleNamespace(
            containers=self._summaries,
            inspect_container=self._inspect,
            pull=self._pull,
            get_image=self._save,
            load_image=self._load,
        )
        self.volumes = SimpleNamespace(get=self._volume)
        self.containers = SimpleNamespace(get=self._container, create=self._create)

    def has(self, *references: str) -> None:
        for reference in references:
            self.store[reference] = StoredImage(f"sha256:{reference}", [f"layer of {reference}"])

    def ids(self) -> dict[str, str]:
        return {reference: image.id for reference, image in self.store.items()}

    def _stored(self, reference: str) -> Any:
        found = self.store.get(reference) or next((one for one in self.store.values() if one.id == reference), None)
        if found is None:
            raise docker.errors.ImageNotFound(f"No such image: {reference}")
        image = found

        def tag(repository: str, tag: str) -> None:
            self.store[f"{repository}:{tag}"] = image

        return SimpleNamespace(id=image.id, attrs=image.attrs, labels=image.labels, tag=tag)

    def _remove(self, reference: str) -> None:
        for name in [name for name, one in self.store.items() if reference in (name, one.id)]:
            del self.store[name]

    def _save(self, reference: str, chunk_size: int) -> Iterator[bytes]:
        image = self._stored(reference)
        name = reference if reference in self.store else ""
        content = {"name": name, "id": image.id, "layers": image.attrs["RootFS"]["Layers"], "labels": image.labels}
        content["config"] = image.attrs["Config"]
        text = json.dumps(content).encode()
        yield text[:10]
        yield text[10:]

    def _load(self, chunks: Iterable[bytes], *, quiet: bool) -> Iterator[dict[str, Any]]:
        assert not quiet
        saved = json.loads(gzip.decompress(b"".join(chunks)))
        name = saved["name"]
        yield {"status": "Loading layer"}
        if name in self.load_fails:
            yield {"error": self.load_fails[name]}
            return
        identity, config = saved["id"], saved["config"]
        if self.ids_change:
            identity, config = f"sha256:other of {name}", {"Hostname": "", "OnBuild": None, "Volumes": {}} | config
        self.store[name or f"<none> {identity}"] = StoredImage(
            identity, saved["layers"], labels=saved["labels"], config=config
        )
        self.loads.append(name)
        yield {"stream": f"Loaded image: {name}\n"}

    def _volume(self, name: str) -> str:
        if name not in self.volumes_here:
            raise docker.errors.NotFound(f"no such volume: {name}")
        return name

    def _create(self, image: str, *, volumes: dict[str, dict[str, str]], **_: Any) -> Any:
        ((name, mount),) = volumes.items()
        folder = self.volumes_here[name]
        assert mount["mode"] == "ro"
        self.containers_left += 1

        def get_archive(path: str, chunk_size: int = 4096) -> tuple[Iterator[bytes], dict[str, Any]]:
            file = folder / Path(path).relative_to(mount["bind"])
            if not (file.exists() or file.is_symlink()):
                raise docker.errors.NotFound(f"no such file: {path}")
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(file, file.name)
            packed.seek(0)
            return iter(lambda: packed.read(chunk_size), b""), {"name": file.name, "size": file.lstat().st_size}

        def remove(*, force: bool) -> None:
            assert force
            self.containers_left -= 1

        return SimpleNamespace(get_archive=get_archive, remove=remove)
