"""Targets: where jobs run. `open` gives one by name; the nouns are in `launcher.target.model`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.target.local import Local


def open(name: str, cache: Cache, *, runtime: str | None = None) -> Local:
    """Return the target of this name: `local`.

    `runtime` names what runs containers: `sandbox`, `docker`, `podman` or `apptainer`; None takes
    $LAUNCHER_RUNTIME, else the first of them that works here. Raises UsageError for names that there are not.
    """
    from launcher.errors import UsageError
    from launcher.target.local import Local
    from launcher.target.runtimes import choose

    if name != "local":
        raise UsageError(f"there is no target `{name}`", hint="`local` is the only one yet")
    return Local(cache, choose(runtime, cache))
