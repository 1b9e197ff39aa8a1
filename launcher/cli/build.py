"""`launcher build`: the image of a spec's lock, in the cache, as a file, in a Docker engine, or in a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cache import Cache
from launcher.cli import files
from launcher.cli import push as pushing
from launcher.cli.files import Format, file_options
from launcher.cli.output import json_option, print_json, print_text
from launcher.cli.pipeline import built, expected, given, locked
from launcher.cli.progress import choose_progress
from launcher.cli.push import push_options
from launcher.image import Image
from launcher.lock import load

if TYPE_CHECKING:
    from launcher.registry.push import Pushed


@click.command("build")
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@file_options
@click.option("--docker", is_flag=True, help="Put the image into the Docker engine.")
@click.option("--frozen", is_flag=True, help="Refuse when the lock is missing or no longer fits.")
@push_options
@json_option
def build(
    spec: Path | None,
    output: Path | None,
    kind: Format | None,
    docker: bool,
    frozen: bool,
    push: str | None,
    compression: str,
    as_json: bool,
) -> None:
    """Assemble the image of SPEC (experiment.yaml, or a .lock): nothing is executed, no daemon, no root."""
    path = given(spec)
    form = files.chosen(output, kind, compression, push=bool(push))
    registry = pushing.target(push) if push else None
    cache, progress = Cache(), choose_progress()
    loaded, lock = None, None
    if path.suffix != ".lock":
        loaded, lock = locked(path, cache, progress, frozen=frozen, inputs=False)
    lock = lock or load(path)
    image = expected(lock, built(lock, cache, progress, spec=loaded))
    written = files.write(image, output, form, compression, cache, progress) if output else {}
    if docker:
        from launcher.image.export import load_into_docker

        load_into_docker(image)
    pushed = pushing.send(image, registry, lock, cache, progress, compression) if registry else None
    report(image, output, written, docker, pushed, as_json)


def report(
    image: Image,
    output: Path | None,
    written: dict[str, object],
    docker: bool,
    pushed: Pushed | None,
    as_json: bool,
) -> None:
    layers = [{"name": x.name, "diff_id": f"sha256:{x.diff_id}", "size": x.size} for x in image.layers]
    if as_json:
        more = {**({"file": written} if written else {}), **({"push": pushing.told(pushed)} if pushed else {})}
        print_json({"id": f"sha256:{image.id}", "tag": image.tag, "layers": layers, "output": output, **more})
        return
    for layer in image.layers:
        print_text(f"{layer.size / 1e6:9.1f} MB  {layer.name}")
    print_text(f"image sha256:{image.id}")
    if output:
        files.tell(output, written)
    if docker:
        print_text(f"in the Docker engine as {image.tag}")
    if pushed:
        pushing.tell(pushed)
