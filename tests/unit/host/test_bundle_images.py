"""Images out of one Docker and into another."""

import hashlib
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests.exceptions

from tests.unit.image_store import ImageStore, StoredImage
from vllmstack.bundle.compression import gzipped
from vllmstack.bundle.manifest import BundledImage
from vllmstack.errors import HostError
from vllmstack.host.bundle_images import LoadedImages, look_at, missing, portable, saved

GATEWAY, PROMETHEUS = "vllmstack/gateway:1.30", "prom/prometheus:v3.5.0"
PINNED = "registry.example.org/engine@sha256:0123456789abcdef"


@pytest.fixture
def here(tmp_path: Path) -> ImageStore:
    store = ImageStore(tmp_path)
    store.has(GATEWAY, PROMETHEUS, PINNED)
    return store


@pytest.fixture
def there(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path)


def looked_at(here: ImageStore, *references: str) -> tuple[BundledImage, ...]:
    return look_at(here.client, {f"image-{number}": reference for number, reference in enumerate(references)})


def test_what_is_here_is_described(here: ImageStore) -> None:
    assert looked_at(here, GATEWAY) == (
        BundledImage(
            name="image-0",
            reference=GATEWAY,
            id=f"sha256:{GATEWAY}",
            layers=(f"layer of {GATEWAY}",),
            configuration=hashlib.sha256(b"{}").hexdigest(),
            size_bytes=1000,
        ),
    )


def test_images_come_over_under_their_names(here: ImageStore, there: ImageStore) -> None:
    images = looked_at(here, GATEWAY, PROMETHEUS)
    loaded = LoadedImages(there.client)

    assert missing(there.client, images) == list(images)
    for image in images:
        loaded.load(image, gzipped(saved(here.client, image)))

    assert there.ids() == {reference: here.ids()[reference] for reference in (GATEWAY, PROMETHEUS)}
    assert missing(there.client, images) == []


def test_an_image_of_that_name_which_is_another_one_is_missing(here: ImageStore, there: ImageStore) -> None:
    there.store[GATEWAY] = StoredImage("sha256:older", ["another layer"])

    assert len(missing(there.client, looked_at(here, GATEWAY))) == 1


@pytest.mark.parametrize(
    "config", [{"Env": ["A=2"]}, {"Env": ["A=1"], "Entrypoint": ["/b"]}, {"Env": ["A=1"], "Labels": {"source": "b"}}]
)
def test_an_image_of_the_same_layers_that_starts_otherwise_is_loaded(
    here: ImageStore, there: ImageStore, config: dict[str, Any]
) -> None:
    layers = here.store[GATEWAY].layers
    here.store[GATEWAY] = StoredImage("sha256:newer", layers, config=config)
    there.store[GATEWAY] = StoredImage("sha256:older", layers, config={"Env": ["A=1"]})
    (image,) = looked_at(here, GATEWAY)

    assert missing(there.client, [image]) == [image]
    LoadedImages(there.client).load(image, gzipped(saved(here.client, image)))

    assert there.store[GATEWAY].config == config
    assert missing(there.client, [image]) == []


def test_an_image_with_a_registrys_digest_gets_a_name(here: ImageStore, there: ImageStore) -> None:
    (image,) = looked_at(here, PINNED)

    LoadedImages(there.client).load(image, gzipped(saved(here.client, image)))

    assert image.reference == portable("image-0", PINNED) == "vllmstack/image-0:0123456789ab"
    assert there.store[image.reference].id == image.id


def test_another_kind_of_store_knows_the_image_by_its_layers_and_its_configuration(
    here: ImageStore, there: ImageStore
) -> None:
    there.ids_change = True
    here.store[GATEWAY].config = {"Env": ["A=1"], "Hostname": "", "OnBuild": None}
    (image,) = looked_at(here, GATEWAY)

    LoadedImages(there.client).load(image, gzipped(saved(here.client, image)))

    assert there.store[GATEWAY].id != image.id
    assert missing(there.client, [image]) == []


def test_an_image_that_comes_out_as_another_one_is_refused(here: ImageStore, there: ImageStore) -> None:
    (image,) = looked_at(here, GATEWAY)
    other = image.model_copy(update={"id": "sha256:asked", "layers": ("asked",)})

    with pytest.raises(HostError) as caught:
        LoadedImages(there.client).load(other, gzipped(saved(here.client, image)))

    assert str(caught.value).startswith(f"loading {GATEWAY}: it is another image than the one that was saved\n")


def test_a_full_disk_of_the_daemon_is_one_line(here: ImageStore, there: ImageStore) -> None:
    (image,) = looked_at(here, GATEWAY)
    there.load_fails[GATEWAY] = "Error processing tar file(exit status 1): write /x: no space left on device"

    with pytest.raises(HostError) as caught:
        LoadedImages(there.client).load(image, gzipped(saved(here.client, image)))

    assert str(caught.value) == (
        f"loading {GATEWAY}: Error processing tar file(exit status 1): write /x: no space left on device\n"
        "  hint: free space below Docker's data-root (`docker system df` shows what it keeps)"
    )


def test_what_was_loaded_is_taken_back(here: ImageStore, there: ImageStore) -> None:
    older = StoredImage("sha256:older", ["another layer"])
    there.store[GATEWAY] = older
    loaded = LoadedImages(there.client)
    for image in looked_at(here, GATEWAY, PROMETHEUS):
        loaded.load(image, gzipped(saved(here.client, image)))
    assert there.ids()[GATEWAY] != older.id

    loaded.undo()

    assert there.store == {GATEWAY: older}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (docker.errors.APIError("500", explanation="out of luck"), "out of luck"),
        (requests.exceptions.ConnectionError("the socket is gone"), "the socket is gone"),
    ],
)
def test_a_daemon_that_fails_is_one_line(here: ImageStore, error: Exception, said: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    (image,) = looked_at(here, GATEWAY)
    here.api.get_image = fail

    with pytest.raises(HostError) as caught:
        list(saved(here.client, image))

    assert str(caught.value) == f"saving {GATEWAY}: {said}\n  hint: see the daemon's log"
