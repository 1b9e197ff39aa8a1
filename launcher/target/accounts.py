"""/etc/passwd and /etc/group of a container: the image's own, and a line for the user who runs it."""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cache import Cache
from launcher.image.tar_reader import Window, clean, members
from launcher.target.model import Mount

if TYPE_CHECKING:
    from launcher.image.oci import Image

FILES = ("etc/passwd", "etc/group")
ROOT_LINES = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}


def mounts(image: Image, cache: Cache, folder: Path, *, user: int, group: int, home: str) -> list[Mount]:
    """Write the two files into `folder` where the image's own don't do; return the mounts that show them."""
    own = of_image(image, cache)
    name = user_name()
    lines = {
        "etc/passwd": (user, f"{name}:x:{user}:{group}:{name}:{home}:/bin/sh\n"),
        "etc/group": (group, f"{name}:x:{group}:\n"),
    }
    found = []
    for path, (number, line) in lines.items():
        if not has(own[path], number):
            file = folder / Path(path).name
            file.write_text(ended(own[path]) + line)
            found.append(Mount(source=file, target=f"/{path}"))
    return found


def of_image(image: Image, cache: Cache) -> dict[str, str]:
    """Return the text of both files, from the topmost layer that has them; read once per image."""
    noted = cache.note("accounts", image.id)
    if isinstance(noted, dict) and set(noted) == set(FILES):
        return noted
    found: dict[str, str] = {}
    for layer in reversed(image.layers):
        for path, text in texts(layer.path).items():
            found.setdefault(path, text)
        if len(found) == len(FILES):
            break
    result = {**ROOT_LINES, **found}
    cache.write_note("accounts", image.id, result)
    return result


def texts(layer: Path) -> dict[str, str]:
    fd = os.open(layer, os.O_RDONLY | os.O_CLOEXEC)
    try:
        window = Window(fd)
        wanted = [member for member in members(window) if os.fsdecode(clean(member.name)) in FILES]
        return {
            os.fsdecode(clean(member.name)): window.read(member.offset, member.size).decode(errors="replace")
            for member in wanted
        }
    finally:
        os.close(fd)


def has(text: str, number: int) -> bool:
    """Tell whether an account file has a line for a number (passwd(5), group(5): the third field)."""
    return any(line.split(":")[2:3] == [str(number)] for line in text.splitlines())


def ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def user_name() -> str:
    """Return the name of the user, in characters that an account file bears."""
    try:
        name = re.sub(r"[^a-z0-9_.-]", "_", getpass.getuser().lower())
    except (KeyError, OSError):
        name = ""
    return name if re.match(r"[a-z_]", name) else "user"
