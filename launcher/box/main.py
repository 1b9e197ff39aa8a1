"""The host side from its first to its last moment: holds the run, moves it on to its end, says how it stands.

It ends with 0 when the run is over here, also by a failure: what starts it again after a crash then has nothing to do.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher.box import credentials, keeping, state
from launcher.box.asked import Asked
from launcher.box.deciding import STOPPED, TEMPORARY, Verdict, going
from launcher.box.host import Host
from launcher.box.model import Order
from launcher.box.output import NAME, Writer
from launcher.box.telling import Teller
from launcher.errors import LauncherError, StoreError
from launcher.hearing import heard
from launcher.node.reach import times
from launcher.node.stopping import Stopped, end_now

BUG = 70  # EX_SOFTWARE of sysexits.h(3)
AWAY_S = 600.0  # a box that is still here so long after a notice was not taken away
MARGIN_S = 10.0
log = logging.getLogger("launcher.box")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the host side of a run's folder, and end this process."""
    words = list(sys.argv[1:] if argv is None else argv)
    folder = Path(words[0]).absolute()
    os.umask(os.umask(0o022) | 0o022)
    keeping.load_environment(folder)
    handler = logging.FileHandler(folder / state.LOG)
    level = logging.DEBUG if "--debug" in words else logging.INFO
    logging.basicConfig(handlers=[handler], level=level, format="%(asctime)s %(message)s")
    with state.held(folder) as mine, heard():
        if mine:
            run(folder)
    end_now(0)


def run(folder: Path) -> None:
    """Move a run on as far as it goes here; who holds it calls this."""
    try:
        order = state.order(folder)
    except LauncherError as e:
        log.error("%s", e)
        return
    out, tell = Writer(folder / NAME), Teller(folder, order)
    if not tell.state.over:
        grace = times(order.profile.warn_s)
        asked = Asked(folder, order.profile.notice, grace["grace_s"] + grace["stop_flush_s"] + MARGIN_S)
        asked.install()
        tell(tell.state.phase if tell.state.phase in ("starting", "running") else "waiting", why="")
        say(moved_on(folder, order, asked, out, tell), tell, out)
        asked.over.set()
    if tell.state.over:
        over(order)
        keeping.leave(order)


def moved_on(folder: Path, order: Order, asked: Asked, out: Writer, tell: Teller) -> Verdict:
    """Return what came of the run; a box that was to be taken away, and was not, goes on."""
    while True:
        host = Host(folder, order, asked, out, tell)
        found = outcome(host, asked)
        if found.decision != "hold" or asked.why != "notice":
            return found
        say(found, tell, out)
        if not asked.outlasted(AWAY_S):
            return found
        asked.again()


def outcome(host: Host, asked: Asked) -> Verdict:
    """Return what came of the run; what went wrong around it is told as a verdict."""
    try:
        return host.to_the_end()
    except Stopped as e:
        if asked.why == "cancelled":
            return host.past.cancel()
        log.info("%s", e)
        return Verdict(decision="hold", cause="box", why=going(asked.why or "SIGTERM"), code=TEMPORARY)
    except LauncherError as e:
        log.error("%s", e)
        if asked.why == "cancelled":
            return host.past.cancel()
        found = Verdict(decision="failed", cause="refused", why=e.problems[0].message, code=e.exit_code)
        return found if isinstance(e, StoreError) else host.past.close(found)
    except Exception as e:  # told, and never taken for the command's own end
        log.exception("a bug in launcher")
        return Verdict(decision="failed", cause="bug", why=f"a bug in launcher: {e!r}", code=BUG)


def say(found: Verdict, tell: Teller, out: Writer) -> None:
    """Say what came of the run: to whoever reads the state, and to whoever watches the output."""
    phase = {"cancelled": "cancelled", "hold": "held"}.get(found.decision, "ended")
    code = None if phase == "held" else found.code or (STOPPED if phase == "cancelled" else 0)
    if found.why:
        out.say(tell.state.attempt or 0, found.why)
    tell(phase, why=found.why, code=code)


def over(order: Order) -> None:
    """Leave nothing of a run that is over but what it printed and how it ended."""
    from launcher.box.queue import Queue

    Queue(order.folder, order.run, Path()).leave()
    credentials.remove(order.folder, order.run)
