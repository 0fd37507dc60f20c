"""`vllmstack render`: the files that `up` would start, without starting anything."""

import click

from vllmstack.commands.preparation import prepare
from vllmstack.console import out
from vllmstack.host.files import write_rendered
from vllmstack.host.tokenizer_files import tokenizer_files
from vllmstack.images import images_for, load_images
from vllmstack.render.stack import render_stack


@click.command("render")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Write a deployment's files to .vllmstack/NAME/ and list them."""
    prepared = prepare(name)
    images = images_for(prepared.deployment, load_images(prepared.project.images_file))
    alertmanager = prepared.project.alertmanager_file.read_text()
    files = render_stack(prepared.plan, images, alertmanager, prepared.lock) | tokenizer_files(prepared.plan)
    folder = write_rendered(prepared.project, prepared.deployment.name, files)
    for path in sorted(files):
        out.print(str((folder / path).relative_to(prepared.project.root)), soft_wrap=True, markup=False)
