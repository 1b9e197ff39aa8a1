"""`launcher build --push`: what went into a registry, told in bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from launcher.cli.output import print_text

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.image import Image
    from launcher.lock import Lock
    from launcher.progress import Progress
    from launcher.registry.push import Pushed
    from launcher.registry.reference import Reference

Command = TypeVar("Command", bound=Callable[..., Any])
COMPRESSIONS = ("auto", "gzip", "zstd", "none")


def push_options(command: Command) -> Command:
    """Add `--push` and `--compression`; the function gets `push: str | None` and `compression: str`."""
    about = "Of layers on their way to a registry (auto: gzip, which all engines read), and of a SIF (auto: none)."
    command = click.option("--compression", type=click.Choice(COMPRESSIONS), default="auto", help=about)(command)
    return click.option("--push", metavar="REF", help="Put the image into a registry, as HOST/NAME:TAG.")(command)


def target(text: str) -> Reference:
    """Read what `--push` names. Raises UsageError before anything is built."""
    from launcher.registry.push import check_target
    from launcher.registry.reference import parse

    reference = parse(text)
    check_target(reference)
    return reference


def send(image: Image, reference: Reference, lock: Lock, cache: Cache, progress: Progress, compression: Any) -> Pushed:
    """Push an image; layers of a registry base are mounted where it is the same registry."""
    from launcher.registry.push import push
    from launcher.registry.reference import parse

    base = lock.base if lock.base and lock.base.kind == "registry" else None
    origin = parse(lock.inputs.base) if base else None
    return push(
        image,
        reference,
        cache,
        base=lock.base,
        base_reference=origin,
        compression=compression,
        progress=progress,
    )


def told(pushed: Pushed) -> dict[str, object]:
    """Return a push in JSON's types."""
    blobs = [
        {"name": x.name, "digest": f"sha256:{x.digest}", "size": x.size, "fate": x.fate, "moved": x.moved}
        for x in pushed.blobs
    ]
    return {
        "reference": pushed.reference,
        "digest": f"sha256:{pushed.digest}",
        "sent_bytes": pushed.sent_bytes,
        "skipped_bytes": pushed.skipped_bytes,
        "manifest_sent": pushed.manifest_sent,
        "blobs": blobs,
    }


def tell(pushed: Pushed) -> None:
    """Say what was sent and what was there."""
    for blob in pushed.blobs:
        if blob.fate != "present":
            print_text(f"{amount(blob.size):>12}  {blob.fate}  {blob.name}")
    there = sum(blob.fate != "sent" for blob in pushed.blobs)
    print_text(f"pushed {pushed.reference}: sent {amount(pushed.sent_bytes)} in {len(pushed.blobs) - there} blobs")
    print_text(f"{amount(pushed.skipped_bytes)} in {there} blobs were there already")
    name = pushed.reference.rpartition(":")[0] if ":" in pushed.reference.rpartition("/")[2] else pushed.reference
    print_text(f"pull it as {name}@sha256:{pushed.digest}")


def amount(size: int) -> str:
    """Return bytes as people read them."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB" if size >= 1000 else f"{size} B"
