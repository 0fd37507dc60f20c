"""From the hub into the store: list, check the disk, fetch what is missing, check each file, and only then keep it.

huggingface_hub speaks the hub's protocol (ids, revisions, redirects, tokens, retries). It does not go on with half a
file in another process, nor look at a checksum: so files are fetched into `.part` files of the store's own.
"""

import contextlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, HFValidationError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils.tqdm import disable_progress_bars

from vllmstack.errors import HostError, InvalidInput, Problem, VllmstackError
from vllmstack.hub.faults import CorruptFile, RefusedContent, ShortFile, problem_of
from vllmstack.hub.selection import are_enough, index_of, is_pickle, selected
from vllmstack.hub.store import COMMIT, PART, Store, digest_of
from vllmstack.hub.wishes import HubFile, Snapshot, Wish

FILES_AT_A_TIME = 8
SPARE_BYTES = 256 * 1024 * 1024
"""Left free on the disk: others write there too."""
ATTEMPTS = 2
"""The second from the beginning: the half of an earlier download may be what is wrong."""

FRUITLESS_TRIES = 3
"""In a row that bring no byte of a file, before what has come of it is left for the next time."""

GIB = 1024**3

TOO_MANY_REQUESTS = 429
NOTHING_FROM_THERE_ON = 416

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_BLOB = re.compile(r"[0-9a-f]{40}")


class Progress:
    """Bytes that are there, of those that are needed. Threads add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.done = 0
        self.total = 0

    def add(self, count: int) -> None:
        """Bytes that have come; fewer than none where a download begins anew."""
        with self._lock:
            self.done += count


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Where models come from."""

    endpoint: str
    token: str | None = None

    @contextlib.contextmanager
    def said_clearly(self, wish: Wish) -> Iterator[None]:
        """Whatever the hub, the network or the disk does within the block is one Problem.

        Raises:
            HostError: with it.
        """
        try:
            yield
        except VllmstackError:
            raise
        except Exception as error:
            if found := problem_of(error, wish, endpoint=self.endpoint, has_token=bool(self.token)):
                raise HostError(found) from None
            raise

    def listing(self, wish: Wish) -> tuple[str, list[HubFile]]:
        """The commit of the wish's revision, and all of its files.

        Raises:
            FileMetadataError: what answers is no hub.
            HFValidationError: the wish names what can be no repository; nobody was asked.
        """
        api = HfApi(endpoint=self.endpoint, token=self.token or False)
        revision = wish.revision if wish.update else wish.commit or wish.revision
        try:
            info = api.model_info(wish.hub, revision=revision, files_metadata=True, timeout=30)
        except HFValidationError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, OSError):  # the hub's own complaints are OSErrors, some of them ValueErrors too
                raise
            raise FileMetadataError("no description of a model") from error
        files = [
            HubFile(path=one.rfilename, size=one.size, sha256=one.lfs.sha256 if one.lfs else "", blob=one.blob_id or "")
            for one in info.siblings or ()
            if one.size is not None
        ]
        if not info.sha or not COMMIT.fullmatch(info.sha) or not all(map(_has_digest, files)):
            raise FileMetadataError("no commit, sizes or digests")
        return info.sha, files

    def fetch(self, wish: Wish, commit: str, file: HubFile, to: BinaryIO, *, have: int) -> None:
        """Appends what is missing of a file, of which ``to`` has ``have`` bytes; less of it, where a body ends early.

        Raises:
            RefusedContent: the hub has given an address, where the content is refused: it may be too old by now.
        """
        url = hf_hub_url(wish.hub, file.path, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(token=self.token or False)
        place = get_hf_file_metadata(url, token=self.token or False, endpoint=self.endpoint).location
        if urlsplit(place).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # a content network's address is signed; the token is for the hub
        headers["Accept-Encoding"] = "identity"  # bytes are counted from where an earlier download ended
        try:
            http_get(
                place, to, resume_size=have, headers=headers, expected_size=file.size, displayed_filename=file.path
            )
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status == TOO_MANY_REQUESTS:
                raise
            if status != NOTHING_FROM_THERE_ON:
                raise RefusedContent(urlsplit(place).netloc, status) from None
        except OSError as error:
            # huggingface_hub's own check of the length; it has no number.
            if "Consistency check failed" not in str(error):
                raise


class Download:
    """Brings wishes into a store. ``told`` gets a line for a person about what is being done."""

    def __init__(self, store: Store, hub: Hub, told: Callable[[str], None], progress: Progress | None = None) -> None:
        self._store = store
        self._hub = hub
        self._told = told
        self._progress = progress or Progress()
        self._stopped = threading.Event()
        self._counted: set[str] = set()
        """Digests of the files that are in ``progress``."""
        disable_progress_bars()

    def pull(self, wish: Wish) -> Snapshot:
        """The snapshot that the wish means, fetched where it is not in the store already; the hub is not asked then.

        Raises:
            HostError: hub, network or disk fail; what has come stays for the next time.
            InvalidInput: the repository does not hold what is asked for, or only in a form that is refused.
        """
        waiting = f"{wish.hub}: waiting for another download of it to end"
        with self._hub.said_clearly(wish):
            found = self._store.present(wish)
            if found is None:
                with self._store.locked(wish.hub, lambda: self._told(waiting)):
                    # Whoever was waited for may have brought it.
                    found = self._store.present(wish) or self._bring(wish)
            self._store.refer(wish.hub, wish.revision, found.commit)
            return found

    def _bring(self, wish: Wish) -> Snapshot:
        if wish.commit and are_enough(wish.files, wish):
            commit, files = wish.commit, list(wish.files)
        else:
            commit, listed = self._hub.listing(wish)
            _refuse_what_is_locked_otherwise(wish, listed)
            files = selected(listed, wish, self._shards(wish, commit, listed))
        before = self._store.snapshot(wish.hub, commit)
        together = {file.path: file for file in (*(before.files if before else ()), *files)}
        snapshot = Snapshot(
            hub=wish.hub,
            commit=commit,
            files=tuple(together[path] for path in sorted(together)),
            code=wish.code or bool(before and before.code),
            pickles=any(map(is_pickle, together)),
        )
        self._fetch_all(wish, commit, files)
        self._refuse_code_from_elsewhere(wish, files)
        self._store.keep(snapshot)
        return snapshot

    def _refuse_code_from_elsewhere(self, wish: Wish, files: Sequence[HubFile]) -> None:
        """``ORG/NAME--module.Class`` in ``auto_map`` is another repository's code, at whatever commit it is."""
        config = next((file for file in files if file.path == "config.json"), None)
        if not wish.code or config is None:
            return
        try:
            places = json.loads(self._store.blob(wish.hub, config).read_text("utf-8")).get("auto_map", {}).values()
        except (ValueError, AttributeError):
            return
        for place in places:
            if isinstance(place, str) and "--" in place:
                other = place.partition("--")[0]
                hint = "take a model that has its own code, or copy both into a directory: `source: {directory: …}`"
                raise InvalidInput(
                    Problem(file=wish.hub, fact=f"runs code of {other}, which no revision pins", hint=hint)
                )

    def _shards(self, wish: Wish, commit: str, listed: Sequence[HubFile]) -> Collection[str] | None:
        index = index_of(listed, wish)
        if index is None:
            return None
        self._fetch_all(wish, commit, [index])
        try:
            return set(json.loads(self._store.blob(wish.hub, index).read_text("utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            raise InvalidInput(
                Problem(file=wish.hub, fact=f"{index.path} is no index of weights", hint="take another revision")
            ) from None

    def _fetch_all(self, wish: Wish, commit: str, files: Sequence[HubFile]) -> None:
        missing = {file.digest: file for file in files if not self._has(wish.hub, file)}
        self._refuse_what_does_not_fit(wish, list(missing.values()))
        # Files of the same content are one, and an index is asked for twice.
        new = {file.digest: file for file in files if file.digest not in self._counted}
        self._counted |= new.keys()
        self._progress.total += sum(file.size for file in new.values())
        self._progress.add(sum(file.size for digest, file in new.items() if digest not in missing))
        self._stopped.clear()
        with ThreadPoolExecutor(max_workers=FILES_AT_A_TIME) as pool:
            # Large ones first: they take the time.
            largest = sorted(missing.values(), key=lambda file: -file.size)
            tasks = [pool.submit(self._fetch, wish, commit, file) for file in largest]
            try:
                wait(tasks, return_when="FIRST_EXCEPTION")
            finally:
                self._stopped.set()
                for task in tasks:
                    task.cancel()
        failed = [task.exception() for task in tasks if not task.cancelled() and task.exception()]
        first = next((error for error in failed if not isinstance(error, _Stopped)), None)
        if first:
            raise first

    def _has(self, hub: str, file: HubFile) -> bool:
        """Whether the content is there, by its digest: an engine of an older release may have brought it."""
        blob = self._store.blob(hub, file)
        return blob.is_file() and blob.stat().st_size == file.size and digest_of(blob, file) == file.digest

    def _refuse_what_does_not_fit(self, wish: Wish, missing: Sequence[HubFile]) -> None:
        parts = [self._part(wish, file) for file in missing]
        there = sum(part.stat().st_size for part in parts if part.is_file())
        needed = sum(file.size for file in missing) - there
        self._store.home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._store.home).free
        if missing and needed + SPARE_BYTES > free:
            raise HostError(
                Problem(
                    file=wish.hub,
                    fact=f"needs {needed / GIB:.1f} GiB more, and the disk of the volume hub-cache has "
                    f"{free / GIB:.1f} GiB free",
                    hint="`vllmstack models list` shows what is there, `vllmstack models rm` removes it; or move "
                    "Docker's data-root",
                )
            )

    def _fetch(self, wish: Wish, commit: str, file: HubFile) -> None:
        part = self._part(wish, file)
        part.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            in_one_piece = self._append(wish, commit, file, part)
            found = digest_of(part, file)
            if found == file.digest:
                _sync(part)  # else the manifest may outlive a power loss, and the content not
                part.replace(self._store.blob(wish.hub, file))
                return
            self._progress.add(-part.stat().st_size)
            part.unlink()
            if in_one_piece or attempt == ATTEMPTS:
                raise CorruptFile(file.path, found, file.digest)
            self._told(f"{wish.hub}: what was there of {file.path} is wrong: fetching it anew")

    def _append(self, wish: Wish, commit: str, file: HubFile, part: Path) -> bool:
        """Fetches the rest of a file; whether it has come at once, and so from one place."""
        with part.open("r+b" if part.is_file() else "w+b") as stream:
            if stream.seek(0, os.SEEK_END) > file.size:
                stream.truncate(0)
                stream.seek(0)
            have = furthest = stream.tell()
            self._progress.add(have)
            counted = cast(BinaryIO, _Counted(stream, self._progress, self._stopped))
            tries = fruitless = 0
            while stream.tell() < file.size:
                refused: RefusedContent | None = None
                try:
                    self._hub.fetch(wish, commit, file, counted, have=stream.tell())
                except RefusedContent as error:
                    refused = error
                tries += 1
                fruitless = 0 if stream.tell() > furthest else fruitless + 1
                furthest = max(furthest, stream.tell())
                if fruitless == FRUITLESS_TRIES:
                    raise refused or ShortFile(file.path, stream.tell(), file.size)
        return have == 0 and tries <= 1

    def _part(self, wish: Wish, file: HubFile) -> Path:
        blob = self._store.blob(wish.hub, file)
        return blob.with_name(blob.name + PART)


def _refuse_what_is_locked_otherwise(wish: Wish, listed: Sequence[HubFile]) -> None:
    """A commit holds the same for ever: whoever lists it otherwise is not the hub that it was locked from."""
    there = {file.path: file.digest for file in listed}
    for file in wish.files:
        if there.get(file.path) != file.digest:
            fact = f"is not what models.lock says of the commit {wish.commit[:12]}"
            hint = "check HF_ENDPOINT: a mirror that changes files cannot be used"
            raise HostError(Problem(file=wish.hub, place=file.path, fact=fact, hint=hint))


def _has_digest(file: HubFile) -> bool:
    """A digest becomes a file's name: whatever else the hub says is none."""
    return bool(_SHA256.fullmatch(file.sha256) if file.sha256 else _GIT_BLOB.fullmatch(file.blob))


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


class _Stopped(Exception):
    """Another file has failed: this one ends too, and goes on the next time."""


class _Counted:
    """A file that counts what is written to it, and refuses once everything shall end."""

    def __init__(self, stream: BufferedRandom, progress: Progress, stopped: threading.Event) -> None:
        self._stream = stream
        self._progress = progress
        self._stopped = stopped

    def write(self, data: bytes) -> int:
        if self._stopped.is_set():
            raise _Stopped
        count = self._stream.write(data)
        self._progress.add(count)
        return count

    def truncate(self) -> int:
        """The hub gives the whole file again, instead of the rest: from where it stands on everything is dropped."""
        here = self._stream.tell()
        end = self._stream.seek(0, os.SEEK_END)
        self._stream.seek(here)
        self._progress.add(here - end)
        return self._stream.truncate()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
