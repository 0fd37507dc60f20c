"""`vllmstack validate`: is the file right, whatever machine it will run on?"""

import json

import click

from vllmstack.commands.preparation import load_deployment
from vllmstack.console import out, warn
from vllmstack.deployment.options import release_notes
from vllmstack.errors import InvalidInput, Problem
from vllmstack.project import find_project


@click.command("validate")
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Problems as JSON on standard output.")
def command(names: tuple[str, ...], as_json: bool) -> None:
    """Check deployment files: names below deployments/, or paths."""
    project = find_project()
    problems: list[Problem] = []
    for name in names:
        try:
            file, deployment = load_deployment(project, name)
        except InvalidInput as error:
            problems += error.problems
        else:
            for note in [note for model in deployment.models for note in release_notes(model.serve)]:
                warn(f"{file}: {note}")
            for note in [note for model in deployment.models for note in release_notes(model.serve)]:
                warn(f"{file}: {note}")
            if not as_json:
                count = len(deployment.models)
                out.print(f"{file}: valid ({count} model{'s' if count > 1 else ''})", soft_wrap=True, markup=False)
    if as_json:
        keys = ("file", "place", "fact", "hint")
        out.print_json(json.dumps([{key: getattr(problem, key) for key in keys} for problem in problems]))
    if problems:
        raise InvalidInput(problems)
