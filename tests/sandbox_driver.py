"""Runs one container in a sandbox as a process of its own, so that tests can kill it or give it another user.

Needs nothing but the standard library beside `launcher`. Argument: a JSON file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def main() -> None:
    told: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, told["packages"])
    from launcher.cache import Cache
    from launcher.errors import LauncherError
    from launcher.target.model import Container, Mount
    from launcher.target.sandbox.runtime import Sandbox

    layers = [SimpleNamespace(diff_id=diff_id, path=Path(path)) for diff_id, path in told["layers"]]
    image: Any = SimpleNamespace(id="0" * 64, config=b"{}", layers=layers)
    container = Container(
        run="driven",
        image=image,
        argv=tuple(told["argv"]),
        env={"PATH": "/usr/bin:/bin"},
        mounts=tuple(Mount(source=Path(s), target=t, writable=w) for s, t, w in told["mounts"]),
        user=os.getuid(),
        group=os.getgid(),
    )
    try:
        ending = Sandbox(Cache(Path(told["cache"])), overlay=told.get("overlay", True)).start(container).wait()
    except LauncherError as e:
        sys.exit(str(e))
    print(f"ending: {ending}", file=sys.stderr)
    sys.exit(ending.exit_code)


if __name__ == "__main__":
    main()
