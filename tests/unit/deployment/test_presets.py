"""The sampling presets."""

import pytest

from vllmstack.deployment.presets import PRESETS

BOTH_RELEASES_TAKE = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens"}


def test_the_five_presets_are_there() -> None:
    assert list(PRESETS) == ["deterministic", "balanced", "creative", "code", "chat"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_uses_only_what_both_releases_take_and_says_why(name: str) -> None:
    preset = PRESETS[name]

    assert preset.parameters.keys() <= BOTH_RELEASES_TAKE
    assert preset.use
    assert preset.why.endswith(".")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_within_vllms_limits_and_leaves_nothing_to_the_models_own_defaults(name: str) -> None:
    parameters = PRESETS[name].parameters

    assert 0 <= parameters["temperature"] <= 2
    assert 0 < parameters["top_p"] <= 1
    assert parameters["top_k"] == 0
    assert 1 <= parameters["repetition_penalty"] <= 2


def test_deterministic_takes_the_likeliest_token() -> None:
    assert PRESETS["deterministic"].parameters["temperature"] == 0
