"""Named sets of limits (``loadtest/profiles/*.yaml``), which become a target at a rate or a concurrency."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from loadtest.errors import LoadTestError
from vllmstack.deployment import messages
from vllmstack.deployment.model import Name, Number, Part, Percentiles, Ratio, Target, TargetLoad
from vllmstack.deployment.target_checks import target_problems
from vllmstack.deployment.wording import listed, perhaps
from vllmstack.deployment.yaml_file import FileKind, read_mapping
from vllmstack.errors import InvalidInput, Problem

PROFILES = Path(__file__).parent.parent / "profiles"
KIND = FileKind("profile", "loadtest/profiles", "a profile's name")


class Profile(Part):
    """Limits without a load; the keys are those of a deployment's target."""

    description: str
    scenario: Name = "chat"
    output_tokens_per_second: Number | None = Field(default=None, gt=0)
    requests_per_second: Number | None = Field(default=None, gt=0)
    ttft_seconds: Percentiles | None = None
    tpot_seconds: Percentiles | None = None
    itl_seconds: Percentiles | None = None
    e2e_seconds: Percentiles | None = None
    error_ratio: Ratio | None = None
    goodput_ratio: Ratio | None = None

    def at(self, load: TargetLoad, *, scenario: str | None = None) -> Target:
        """The target at a load; ``scenario`` instead of the profile's own."""
        limits = self.model_dump(exclude={"description", "scenario"}, exclude_none=True)
        return Target(load=load, scenario=scenario or self.scenario, **limits)


SHAPE = messages.Shape(Profile, "loadtest/profiles/mlperf.yaml")


def profile(name: str, folder: Path = PROFILES) -> Profile:
    """One profile by its name.

    Raises:
        LoadTestError: there is none of the name (the hint says what there is), or a file is wrong.
    """
    found = profiles(folder)
    if name not in found:
        known = f"the profiles are {listed(sorted(found))}" if found else f"{folder} holds no profile"
        near = perhaps(name, found)
        hint = f"{near} {known[:1].upper()}{known[1:]}" if near else known
        raise LoadTestError(Problem(place="--profile", fact=f"there is no profile {name!r}", hint=hint))
    return found[name]


def profiles(folder: Path = PROFILES) -> dict[str, Profile]:
    """Every profile of the folder's files, by name.

    Raises:
        LoadTestError: with everything that is wrong in any of them.
    """
    found: dict[str, Profile] = {}
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            data, repeated = read_mapping(path, KIND)
        except InvalidInput as error:
            problems += error.problems
            continue
        problems += repeated
        for key, fields in data.items():
            name = str(key)
            if name in found:
                problems.append(
                    Problem(
                        file=str(path),
                        place=name,
                        fact="another file has a profile of this name",
                        hint="rename one",
                    )
                )
            try:
                found[name] = one = Profile.model_validate(fields)
            except ValidationError as error:
                problems += _problems(error, fields, str(path), name)
            else:
                problems += _rules(one, str(path), name)
    if problems:
        raise LoadTestError(problems)
    return found


def _rules(one: Profile, file: str, name: str) -> Iterator[Problem]:
    for problem in target_problems(name, one.at(TargetLoad(concurrency=1))):
        yield Problem(file=file, place=problem.place, fact=problem.fact, hint=problem.hint)


def _problems(error: ValidationError, fields: Any, file: str, name: str) -> Iterator[Problem]:
    for problem in messages.problems(error, fields, file, SHAPE):
        place = "/".join(filter(None, (name, problem.place)))
        yield Problem(file=file, place=place, fact=problem.fact, hint=problem.hint)
