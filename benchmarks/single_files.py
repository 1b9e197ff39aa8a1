"""What one file for Apptainer costs: our SIF against `apptainer build` and mksquashfs, from the same OCI archive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.containers import add_apptainer
from benchmarks.environments import SMALL, Bench
from benchmarks.measure import Row, Took, median, process, table, tell

UNPACK = "umoci unpack --rootless --image {layout} {bundle}"
PACK = "mksquashfs {bundle}/rootfs {out} -noappend -no-progress -quiet -all-root -no-xattrs"


def single_files(bench: Bench) -> None:
    """Print the table, and the sizes of the files. Ours start from an image that is in the cache."""
    tell("files: locking and assembling")
    lock = bench.spec(SMALL).with_suffix(".lock")
    archive = bench.folder / "image.tar"
    bench.launcher("build", lock, "-o", archive)
    add_apptainer()
    theirs = {"apptainer build": apptainer(bench, archive), "umoci, mksquashfs": packed(bench, archive)}
    rows = []
    for words in ((), ("--compression", "zstd"), ("--compression", "gzip")):
        out = bench.folder / f"ours-{'-'.join(words[1:]) or 'none'}.sif"
        ours = median(lambda out=out, words=words: bench.launcher("build", lock, "-o", out, *words), 3)  # type: ignore[misc]
        name = " ".join(("launcher build -o x.sif", *words[1:]))
        rows += [Row(what=name, ours=ours, rival=rival, theirs=took) for rival, took in theirs.items()]
    table("One file of a small environment", rows)
    for path in sorted([*bench.folder.glob("*.sif"), *bench.folder.glob("*.sqsh")]):
        print(f"{path.stat().st_size / 1e6:9.1f} MB  {path.name}")


def apptainer(bench: Bench, archive: Path) -> Took:
    out = bench.folder / "apptainer.sif"
    env = {"APPTAINER_CACHEDIR": str(bench.folder / "apptainer"), "APPTAINER_NO_PRIVS": "1"}
    return process(["apptainer", "--silent", "build", "--force", out, f"oci-archive:{archive}"], env=env)


def packed(bench: Bench, archive: Path) -> Took:
    """Unpack with umoci, which wants a layout in a folder (made beforehand), and pack with mksquashfs' own settings."""
    layout, bundle, out = (bench.folder / name for name in ("layout", "bundle", "mksquashfs.sqsh"))
    layout.mkdir()
    process(["tar", "-C", layout, "-xf", archive])
    [tag] = tags(layout)
    words = {"layout": f"{layout}:{tag}", "bundle": bundle, "out": out}
    took = process(["sh", "-ec", f"{UNPACK}\n{PACK}".format(**words)])
    shutil.rmtree(bundle)
    return took


def tags(layout: Path) -> list[str]:
    """Return the tags of a layout."""
    index = json.loads((layout / "index.json").read_text())
    return [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]]
