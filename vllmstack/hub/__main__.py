"""`python -m vllmstack.hub ACTION REQUEST`: one JSON object a line on standard output.

    pull      brings what the request wishes for; what is there already costs no word with the hub
    list      what is in the volume
    verify    reads every file of what the request wishes for, and compares its digest
    remove    removes what the request names

REQUEST is a file, ``{"wishes": [{"hub": "ORG/NAME", …}]}``; see ``wishes.Wish``. Lines have a message for a person, and
for the program that asked a ``problem``, a ``result``, or ``progress``. The status is 1 if there was a problem.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from vllmstack.errors import EXIT_FAILED, Problem, VllmstackError
from vllmstack.hub.selection import are_enough
from vllmstack.hub.store import Store
from vllmstack.hub.tokens import token_in
from vllmstack.hub.wishes import Snapshot, Wish, as_json, wish_from

TOKEN_FILE = Path("/run/secrets/hub_token")
PROGRESS_SECONDS = 1.0
ENDPOINT = "https://huggingface.co"
"""huggingface_hub's own default."""


def main(arguments: Sequence[str]) -> int:
    """Does what is asked for; the exit status."""
    action, request = arguments
    wishes = [wish_from(one) for one in json.loads(Path(request).read_text("utf-8"))["wishes"]]
    store = Store(Path(os.environ["HF_HOME"]))
    actions = {"pull": _pull, "list": _list, "verify": _verify, "remove": _remove}
    problems = actions[action](store, wishes)
    for problem in problems:
        say(problem.fact, level="error", problem=vars(problem))
    return EXIT_FAILED if problems else 0


def say(message: str, *, level: str = "info", **fields: Any) -> None:
    """One line."""
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    print(json.dumps({"time": stamp, "level": level, "message": message, **fields}, default=str), flush=True)


def _pull(store: Store, wishes: Sequence[Wish]) -> list[Problem]:
    problems: list[Problem] = []
    for wish in wishes:
        try:
            found = _brought(store, wish)
        except VllmstackError as error:
            problems += error.problems
        else:
            say(f"{found.hub}: {found.commit[:12]} is there", result=_result(found, wish.revision))
    return problems


def _brought(store: Store, wish: Wish) -> Snapshot:
    if found := store.present(wish):
        store.refer(wish.hub, wish.revision, found.commit)
        return found
    # huggingface_hub takes half a second to import, which a volume that is warm does not need.
    from vllmstack.hub.download import Download, Hub, Progress  # noqa: PLC0415

    progress = Progress()
    hub = Hub(endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT, token=_token())
    say(f"{wish.hub}: asking {hub.endpoint}")
    started = time.monotonic()
    with _telling(lambda: _progress_line(wish.hub, progress.done, progress.total)):
        found = Download(store, hub, say, progress).pull(wish)
    say(f"{wish.hub}: fetched and checked in {time.monotonic() - started:.0f} s")
    return found


def _list(store: Store, _: Sequence[Wish]) -> list[Problem]:
    for one in store.snapshots():
        revisions = store.revisions_of(one.hub, one.commit)
        say(f"{one.hub} {one.commit[:12]}", result=as_json(one) | {"revisions": revisions})
    for hub, size in store.leftovers().items():
        say(f"{hub}: not whole", leftover={"hub": hub, "size": size})
    return []


def _verify(store: Store, wishes: Sequence[Wish]) -> list[Problem]:
    problems: list[Problem] = []
    for wish in wishes:
        commit = wish.commit or store.commit_of(wish.hub, wish.revision) or ""
        found = store.snapshot(wish.hub, commit)
        if found is None and not are_enough(wish.files, wish):
            problems.append(Problem(file=wish.hub, fact="is not in the volume, or not whole", hint=_pull_hint(wish)))
            continue
        # All that is there, each as it is locked; and what is locked shall be there.
        files = {file.path: file for file in (*(found.files if found else ()), *wish.files)}
        wanted = Snapshot(hub=wish.hub, commit=commit, files=tuple(files.values()))
        wrong = _wrong(store, wanted)
        if wrong:
            store.forget(wish.hub, commit)
        problems += [Problem(file=wish.hub, place=path, fact=fact, hint=_pull_hint(wish)) for path, fact in wrong]
        if not wrong:
            say(f"{wish.hub}: {len(files)} files are as they should be", result=_result(wanted, wish.revision))
    return problems


def _wrong(store: Store, wanted: Snapshot) -> list[tuple[str, str]]:
    read = 0

    def told(count: int) -> None:
        nonlocal read
        read += count

    with _telling(lambda: _progress_line(wanted.hub, read, wanted.size)):
        return list(store.differences(wanted, told))


def _remove(store: Store, wishes: Sequence[Wish]) -> list[Problem]:
    for wish in wishes:
        with store.locked(wish.hub, partial(say, f"{wish.hub}: waiting for a download of it to end")):
            freed = store.remove(wish.hub, wish.commit or None)
        say(f"{wish.hub}: removed", result={"hub": wish.hub, "freed": freed})
    return []


def _result(found: Snapshot, revision: str) -> dict[str, Any]:
    return as_json(found) | {"revision": revision}


def _progress_line(hub: str, done: int, total: int) -> None:
    if total:
        share = f"{done / 1e9:.2f} of {total / 1e9:.2f} GB"
        say(f"{hub}: {share}", progress={"hub": hub, "done": done, "total": total})


@contextmanager
def _telling(line: Callable[[], None]) -> Iterator[None]:
    """Calls ``line`` every second within the block, and once at its end."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            line()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        line()


def _token() -> str | None:
    try:
        return token_in(TOKEN_FILE.read_text(errors="replace"), "secrets/hub_token") or None
    except OSError:
        return None


def _pull_hint(wish: Wish) -> str:
    return f"`vllmstack models pull {wish.hub}` fetches it"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
