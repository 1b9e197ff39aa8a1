"""`launcher build -o`: the image as a file, as an OCI archive, a SIF or a squashfs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from launcher.cli.output import print_text
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.image import Image
    from launcher.image.squashfs import Compression
    from launcher.progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])
Format = Literal["oci", "sif", "squashfs"]
FORMATS: tuple[Format, ...] = ("oci", "sif", "squashfs")
SUFFIXES: dict[str, Format] = {".sif": "sif", ".sqsh": "squashfs", ".squashfs": "squashfs", ".sqfs": "squashfs"}
USE = {
    "oci": "`docker load -i {output}`",
    "sif": "`apptainer exec --containall --cleanenv --no-home --pwd /workspace {output} COMMAND`",
    "squashfs": "`enroot create {output}`, or `srun --container-image={output}` with pyxis",
}


def file_options(command: Command) -> Command:
    """Add `--output` and `--format`; the function gets `output: Path | None` and `kind: Format | None`."""
    about = "How the file is written; by its suffix, if not said: .sif, .sqsh, .squashfs, .sqfs, else an OCI archive."
    command = click.option("--format", "kind", type=click.Choice(FORMATS), help=about)(command)
    said = "Write the image to a file: an OCI archive that Docker loads too, a SIF, or a squashfs."
    return click.option("-o", "--output", type=click.Path(path_type=Path), help=said)(command)


def chosen(output: Path | None, kind: Format | None, compression: str, *, push: bool) -> Format:
    """Return the format of a file, before anything is built. Raises UsageError where the options make no sense."""
    if output is None:
        if kind:
            raise UsageError(f"--format {kind} says how a file is written, and none is named", hint="-o image." + kind)
        return "oci"
    from launcher.image.export import check_output

    check_output(output)
    kind = kind or SUFFIXES.get(output.suffix, "oci")
    if kind == "oci" and compression in ("gzip", "zstd") and not push:
        raise UsageError(
            "an OCI archive isn't compressed, because its digests are the image's identity",
            hint=f"leave --compression out, or compress the file: `zstd {output}`",
        )
    return kind


def write(
    image: Image, output: Path, kind: Format, compression: str, cache: Cache, progress: Progress
) -> dict[str, object]:
    """Write the file; return what is told of it in JSON."""
    if kind == "oci":
        from launcher.image.export import write_archive

        write_archive(image, output)
        return {"format": kind}
    from launcher.image.sif import write_output

    packed = packing(compression)
    digest = write_output(image, kind, output, cache, progress, packed)
    return {"format": kind, "sha256": digest, "compression": packed}


def packing(compression: str) -> Compression:
    """Say what `--compression` means for a file: none if it isn't said, so that its bytes hang on the image alone."""
    if compression == "gzip":
        return "gzip"
    return "zstd" if compression == "zstd" else "none"


def tell(output: Path, written: dict[str, object]) -> None:
    """Say where the file is, what it is known by, and how it is used."""
    print_text(f"written to {output}: {USE[str(written['format'])].format(output=output)}")
    if "sha256" in written:
        print_text(f"file sha256:{written['sha256']}")
    if written.get("compression", "none") != "none":
        print_text(f"its bytes hang on this machine's {written['compression']}; without --compression they don't")
