"""Does what `launcher run` does once it has an image, as a process of its own, so that tests can signal and kill it."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

from launcher.cache import Cache
from launcher.cli import execution
from launcher.code import snapshot
from launcher.image.oci import Image, Layer
from launcher.job import Job, run_id
from launcher.spec.model import CodeSpec
from launcher.target.model import Work


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    cache = Cache(Path(told["cache"]))
    layers = tuple(Layer(**{**layer, "path": Path(layer["path"])}) for layer in told["layers"])
    image = Image(id=told["image"], config=told["config"].encode(), manifest=b"{}", layers=layers)
    code = snapshot(CodeSpec(root=Path(told["code"])), cache)
    run = told.get("run") or run_id("t", datetime.now(timezone.utc), b"abcd")
    argv = tuple(told["argv"])
    job = Job(run=run, name="t", lock="0" * 64, image=image.id, code=code.digest, command=argv, argv=argv)
    data = {name: Path(path) for name, path in told.get("data", {}).items()}
    opened, access = execution.open_store(told["store"])
    work = Work(job=job, image=image, code=code.archive, store=access, attempt=told["attempt"], data=data)
    runtime = told.get("runtime", "sandbox")
    sys.exit(
        execution.execute(work, opened, cache, runtime=runtime, facts=code.facts(), as_json=told.get("json", False))
    )


if __name__ == "__main__":
    main()
