"""What a spec asks for, in the form in which a lock remembers it."""

from __future__ import annotations

from launcher.errors import Where
from launcher.lock.containerfile import containerfile_digest
from launcher.lock.model import Inputs
from launcher.lock.pyproject import read_pyproject
from launcher.lock.requirements import Asked, Collection, display
from launcher.lock.requirements_txt import read_requirements_txt
from launcher.spec.model import Spec


def inputs(spec: Spec, asked: Asked | None = None) -> Inputs:
    """Return the normalised inputs of a spec; requirements files are read from disk unless `asked` is given.

    Raises SpecError with every mistake in those files, and when a Containerfile can't be read.
    """
    asked, image = asked or asked_python(spec), spec.image
    return Inputs(
        base="" if image.containerfile else image.base,
        platform=image.platform,
        python=image.python,
        containerfile=containerfile_digest(image.containerfile) if image.containerfile else None,
        apt=tuple(sorted(set(image.apt))),
        pip=asked.requirements,
        constraints=asked.constraints,
        build=tuple(sorted(set(image.build.packages))),
        build_apt=tuple(sorted(set(image.build.apt))),
        build_base=image.build.base,
    )


def asked_python(spec: Spec) -> Asked:
    """Read what a spec says about Python packages. Raises SpecError with every mistake."""
    into, pip = Collection(), spec.image.pip
    for number, text in enumerate(pip.requirements):
        into.add(text, Where(file=display(spec.file), key=f"image.pip[{number}]"))
    if pip.file is not None and pip.file.suffix == ".toml":
        read_pyproject(pip.file, pip.extras, pip.groups, into)
    elif pip.file is not None:
        read_requirements_txt(pip.file, into)
    return into.asked()
