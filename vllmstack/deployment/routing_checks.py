"""What the gateway could not route by: pure checks over names, splits and their models, which are typed already."""

from collections.abc import Iterator, Sequence

from vllmstack.deployment.adapters import adapters_of
from vllmstack.deployment.model import Gateway, Model, Split
from vllmstack.deployment.wording import listed, perhaps, shown
from vllmstack.errors import Problem
from vllmstack.planning.placement import service_prefix


def names_problems(models: Sequence[Model], splits: Sequence[Split]) -> Iterator[Problem]:
    """Client names that stand for two things, and names that would become one Compose service."""
    owner: dict[str, str] = {}
    for place, name in _client_names(models, splits):
        if name in owner:
            yield Problem(
                place=place,
                fact=f"{shown(name)} is already the name at {owner[name]}",
                hint="give it another name: requests are routed by it",
            )
        owner.setdefault(name, place)
    prefixes: dict[str, str] = {}
    for index, model in enumerate(models):
        prefix = service_prefix(model)
        if prefix in prefixes and prefixes[prefix] != model.name:
            yield Problem(
                place=f"models/{index}/name",
                fact=f"{shown(model.name)} and {shown(prefixes[prefix])} both become the service {prefix}",
                hint="change a letter or digit: services keep only lower case, digits and dashes",
            )
        prefixes.setdefault(prefix, model.name)


def _client_names(models: Sequence[Model], splits: Sequence[Split]) -> Iterator[tuple[str, str]]:
    for index, model in enumerate(models):
        place = f"models/{index}"
        yield f"{place}/name", model.name
        yield from ((f"{place}/aliases/{number}", alias) for number, alias in enumerate(model.aliases))
        yield from ((f"{place}/serve/{adapter.place}", adapter.name) for adapter in adapters_of(model.serve))
    yield from ((f"splits/{index}/name", split.name) for index, split in enumerate(splits))


def split_problems(index: int, split: Split, models: Sequence[Model]) -> Iterator[Problem]:
    """A split that names a model that is none, or that an alias would do for."""
    place = f"splits/{index}"
    for name in split.weights:
        yield from _model_name(f"{place}/weights/{name}", name, models)
    alone = next(iter(split.weights)) if len(split.weights) == 1 else None
    if split.mirror is None:
        if alone is not None:
            yield Problem(
                place=f"{place}/weights",
                fact=f"all requests go to {shown(alone)}",
                hint=f"name a second model, or write {split.name} under the `aliases` of {alone}",
            )
        return
    yield from _model_name(f"{place}/mirror/model", split.mirror.model, models)
    if split.mirror.model == alone:
        yield Problem(
            place=f"{place}/mirror/model",
            fact=f"{shown(alone)} answers every request of this split already",
            hint="name another model, or leave `mirror` out",
        )


def _model_name(place: str, name: str, models: Sequence[Model]) -> Iterator[Problem]:
    names = [model.name for model in models]
    if name in names:
        return
    for model in models:
        adapters = [adapter.name for adapter in adapters_of(model.serve)]
        if name in model.aliases or name in adapters:
            kind = "an alias" if name in model.aliases else "an adapter"
            yield Problem(place=place, fact=f"{shown(name)} is {kind} of a model", hint=f"write `{model.name}`")
            return
    yield Problem(
        place=place,
        fact=f"there is no model {shown(name)}",
        hint=perhaps(name, names) or (f"the models are {listed(names)}" if len(names) > 1 else f"write `{names[0]}`"),
    )


def hang_problems(index: int, model: Model, gateway: Gateway) -> Iterator[Problem]:
    """A hang that would be noticed only after its requests have failed; the default is not the file's mistake."""
    hung = model.health.hung_seconds
    if "hung_seconds" in model.health.model_fields_set and hung >= gateway.first_byte_seconds:
        yield Problem(
            place=f"models/{index}/health/hung_seconds",
            fact=f"{hung} is not less than the {gateway.first_byte_seconds} of gateway/first_byte_seconds: requests "
            "would fail before a hang is noticed",
            hint=f"write less than {gateway.first_byte_seconds}, or raise `gateway/first_byte_seconds`",
        )
