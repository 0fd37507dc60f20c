"""What `up` started last, as other commands find it."""

import pytest

from tests.unit.conftest import KEY, Clone
from vllmstack.errors import HostError
from vllmstack.host.running import running_deployment, running_key, running_url


def test_what_runs_is_what_was_started_last(clone: Clone) -> None:
    clone.is_up("https://[::1]:8443")

    assert running_deployment(clone.project) == "smoke"
    assert running_url(clone.project) == "https://[::1]:8443"


@pytest.mark.parametrize(("asks", "key"), [(True, KEY), (False, None)])
def test_the_key_is_the_stacks_own_where_the_deployment_asks_for_one(clone: Clone, asks: bool, key: str | None) -> None:
    clone.is_up()
    clone.project.secrets.mkdir()
    (clone.project.secrets / "stack_key").write_text(KEY)
    if asks:
        with (clone.project.rendered("smoke") / "compose.env").open("a") as values:
            values.write("VLLMSTACK_API_KEYS_FILE=secrets/api_keys\n")

    assert running_key(clone.project) == key


@pytest.mark.parametrize("left", ["nothing", "a link to nothing", "files that were never started"])
def test_nothing_runs_before_the_first_start(clone: Clone, left: str) -> None:
    if left == "a link to nothing":
        clone.project.state.mkdir()
        clone.project.current.symlink_to("smoke")
    elif left == "files that were never started":
        clone.project.rendered("smoke").mkdir(parents=True)

    with pytest.raises(HostError) as caught:
        running_deployment(clone.project)

    assert str(caught.value) == "nothing was started from this clone yet\n  hint: run `vllmstack up`"
