"""Whether a lock still fits its spec, all of it offline. Inputs: see test_inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.lock import Lock
from launcher.lock.check import problems
from launcher.lock.inputs import inputs
from launcher.spec.model import CodeSpec, ImageSpec, Pip, Spec


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    image = ImageSpec(apt=("jq",), python="3.11", pip=Pip(requirements=("numpy", "tqdm")), env={"A": "1"})
    return Spec(name="x", image=image, code=CodeSpec(root=tmp_path), run="true", file=tmp_path / "x.yaml")


@pytest.fixture
def lock(spec: Spec) -> Lock:
    return Lock(
        inputs=inputs(spec),
        suite="bookworm",
        architecture="amd64",
        python="3.11.2",
        libc="glibc 2.36",
        env={"A": "1"},
    )


def test_a_lock_fits_its_spec(lock: Lock, spec: Spec) -> None:
    assert problems(lock, spec) == ()


def test_every_difference_is_told(lock: Lock, spec: Spec) -> None:
    image = replace(
        spec.image,
        base="debian:trixie",
        python=None,
        apt=(),
        env={"B": "2"},
        pip=Pip(requirements=("numpy>=2", "tqdm")),
    )
    found = problems(lock, replace(spec, image=image))
    assert [(problem.where and problem.where.key, problem.message) for problem in found] == [
        ("image.base", "is `debian:trixie` now, and the lock was made for `debian:bookworm`"),
        ("image.python", "is not set now, and the lock was made for `3.11`"),
        ("image.apt", "the request `jq` is in the lock and no longer in the spec"),
        ("image.pip", "the request `numpy>=2` came after the lock was made"),
        ("image.pip", "the request `numpy` is in the lock and no longer in the spec"),
        ("image.env.A", "is not set now, and `1` in the lock"),
        ("image.env.B", "is `2` now, and not set in the lock"),
    ]
