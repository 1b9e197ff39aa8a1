"""GPUs that aren't there: what a driver and NVIDIA's toolkit for containers would show of them."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.box.model import Parts

SMI = """#!/bin/sh
# Answers what is asked by --query-gpu; -L and nothing show a list.
[ ! -e /usr/local/share/nvidia-hangs ] || sleep 600
case "$*" in
*--query-gpu=*)
    fields=${*##*--query-gpu=}
    fields=${fields%% *}
    while IFS='|' read -r index uuid name memory cap driver; do
        row=
        for field in $(printf %s "$fields" | tr , ' '); do
            case $field in
            index) value=$index ;; uuid | gpu_uuid) value=$uuid ;; name | gpu_name) value=$name ;;
            memory.total) value=$memory ;; compute_cap) value=$cap ;; driver_version) value=$driver ;;
            *) value='[N/A]' ;;
            esac
            row="$row${row:+, }$value"
        done
        printf '%s\\n' "$row"
    done </usr/local/share/nvidia-gpus
    ;;
*)
    while IFS='|' read -r index uuid name _; do
        echo "GPU $index: $name (UUID: $uuid)"
    done </usr/local/share/nvidia-gpus
    ;;
esac
"""
HOOK = """#!/usr/bin/python3 -IS
# nvidia-container-runtime-hook prestart: shows a container the GPUs that its environment names, as NVIDIA's does.
import json, os, shutil, subprocess, sys
state = json.load(sys.stdin)
with open(state["bundle"] + "/config.json") as stream:
    config = json.load(stream)
env = dict(one.split("=", 1) for one in config["process"]["env"])
names = env.get("NVIDIA_VISIBLE_DEVICES", "void").split(",")
root = config["root"]["path"]
if names != ["void"]:
    node = ["mknod", "-m", "666", f"{root}/dev/nvidiactl", "c", "4", "9"]  # runc(8): the mounts are made, no pivot yet
    subprocess.run(["nsenter", "-t", str(state["pid"]), "-m", *node], check=True)
local = f"{root}/usr/local"
for folder in ("bin", "share"):
    os.makedirs(f"{local}/{folder}", exist_ok=True)
shutil.copy("/usr/local/bin/nvidia-smi", f"{local}/bin/nvidia-smi")
with open("/usr/local/share/nvidia-gpus") as stream, open(f"{local}/share/nvidia-gpus", "w") as out:
    out.writelines(line for line in stream if "all" in names or set(names) & set(line.split("|")[:2]))
"""
AT_BOOT = """#!/bin/sh
# The driver's device files, numbered as terminals: they do nothing.
set -e
mknod -m 666 "$1/dev/nvidiactl" c 4 9
k=0
while [ $k -lt {count} ]; do
    mknod -m 666 "$1/dev/nvidia$k" c 4 $((10 + k))
    k=$((k + 1))
done
{proc}
"""
PROC = """mount --bind {place} "$1/proc/driver"
"""
VERSION = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Thu Jan  1 00:00:00 UTC 2026\nGCC version:  gcc 12\n"
)
INFORMATION = "Model: \t\t {model}\nIRQ:   \t\t 0\nGPU UUID: \t {uuid}\nDevice Minor: \t {index}\n"


def uuid(box: Parts, index: int) -> str:
    return f"GPU-{box.site.number:08x}-{box.k:04x}-0000-0000-{index:012x}"


def put(
    box: Parts,
    count: int,
    *,
    driver: str,
    capability: str | None,
    model: str,
    memory_mb: int,
    toolkit: bool,
    tree: bool,
) -> None:
    """Write what the box shows from its next boot on."""
    names = [uuid(box, index) for index in range(count)]
    rows = [f"{k}|{name}|{model}|{memory_mb}|{capability or '[N/A]'}|{driver}\n" for k, name in enumerate(names)]
    local = box.disk / "local"
    (local / "share").mkdir(exist_ok=True)
    (local / "share" / "nvidia-gpus").write_text("".join(rows))
    program(local / "bin" / "nvidia-smi", SMI)
    hook = local / "bin" / "nvidia-container-runtime-hook"
    program(hook, HOOK) if toolkit else hook.unlink(missing_ok=True)
    proc = proc_tree(box, names, driver, model) if tree else ""
    program(box.disk / "at-boot", AT_BOOT.format(count=count, proc=proc))


def proc_tree(box: Parts, names: list[str], driver: str, model: str) -> str:
    """Write /proc/driver/nvidia as the driver has it (its README, "The /proc Interface"); return how it is mounted."""
    place = box.disk / "proc-driver"
    (place / "nvidia" / "gpus").mkdir(parents=True, exist_ok=True)
    (place / "nvidia" / "version").write_text(VERSION.format(driver=driver))
    for index, name in enumerate(names):
        one = place / "nvidia" / "gpus" / f"0000:{0x17 + index:02x}:00.0"
        one.mkdir(exist_ok=True)
        (one / "information").write_text(INFORMATION.format(model=model, uuid=name, index=index))
    return PROC.format(place=shlex.quote(str(place)))


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
