"""Debian mirrors as a source of artifacts: a .deb by its path below `pool/`, from every root that apt names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain

from launcher.errors import FetchError
from launcher.indexes.apt import AptConfig, apt_config, usable_roots
from launcher.indexes.apt_web import Web
from launcher.indexes.source import Stream
from launcher.lock.model import Artifact, Deb


class AptMirror:
    """Every Debian mirror of this machine, security mirrors included, asked in the order of apt's sources."""

    name = "Debian mirror"
    holds = Deb

    def __init__(self, config: AptConfig | None = None) -> None:
        self.given = config
        self.ready: tuple[Web, tuple[str, ...]] | None = None

    def connect(self) -> tuple[Web, tuple[str, ...]]:
        """Read apt's configuration when the first .deb is asked for: a lock of wheels never needs it."""
        if self.ready is None:
            config = self.given or apt_config()
            self.ready = (Web(config), usable_roots(config))
        return self.ready

    @contextlib.contextmanager
    def open(self, artifact: Artifact) -> Iterator[Stream | None]:
        """Stream a .deb; None when no root has it, or it isn't a .deb. Raises FetchError."""
        if not isinstance(artifact, Deb):
            yield None
            return
        web, roots = self.connect()
        failures: list[FetchError] = []
        others: list[str] = []  # roots with another file of that name: two distributions share many names
        for root in chain(roots, others):
            with contextlib.ExitStack() as stack:
                try:
                    stream = stack.enter_context(web.stream(f"{root}/{artifact.pool}"))
                except FetchError as e:
                    failures.append(e)
                    continue
                if stream is None:
                    continue
                if root not in others and stream.left and artifact.size and stream.left != artifact.size:
                    others.append(root)
                    continue
                yield stream
                return
        if failures:  # a mirror that doesn't answer may well have it: that is another thing than "nobody has it"
            raise FetchError.of(problem for failure in failures for problem in failure.problems)
        yield None
