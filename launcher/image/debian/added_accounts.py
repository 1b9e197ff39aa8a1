"""Users and groups over a base image: its own lines stay, and what added packages ask for comes behind them."""

from __future__ import annotations

from dataclasses import replace

from launcher.image.debian.accounts import SHADOW_DAY, Wishes, collect, grouped, lines, listed, with_x, write_shadow
from launcher.image.debian.system import System


def added_accounts(system: System) -> None:
    """Add to /etc/passwd and /etc/group, and to /etc/shadow and /etc/gshadow where the base has them."""
    if system.base is None or not system.exists("/etc/passwd"):
        return
    users, odd_users = table(system, "/etc/passwd", 7)
    groups, odd_groups = table(system, "/etc/group", 4)
    wishes = free_numbers(collect(system), numbers(users), numbers(groups))
    more_groups = grouped(lines(groups), wishes)
    gids = {line.split(":")[0]: int(line.split(":")[2]) for line in more_groups}
    more_users = listed(lines(users), wishes, gids)
    if "passwd" in system.packages and not system.exists("/etc/shadow"):  # its postinst moves all passwords there
        write_shadow(system, users, groups)
    add(system, "/etc/group", "/etc/gshadow", groups, more_groups, odd_groups)
    add(system, "/etc/passwd", "/etc/shadow", users, more_users, odd_users)


def table(system: System, path: str, fields: int) -> tuple[list[str], list[str]]:
    """Return the lines of a table that are accounts, and the others, such as `+::::::` for NIS (passwd(5))."""
    found = [line for line in system.kept_text(path).splitlines() if line]
    plain = [line for line in found if line.count(":") == fields - 1 and line.split(":")[2].isdigit()]
    return plain, [line for line in found if line not in plain]


def numbers(rows: list[str]) -> set[int]:
    return {int(row.split(":")[2]) for row in rows}


def free_numbers(wishes: Wishes, uids: set[int], gids: set[int]) -> Wishes:
    """Let a fixed number go that the base has given to somebody else, as systemd-sysusers(8) does."""
    users = {n: replace(u, uid=None) if u.uid in uids else u for n, u in wishes.users.items()}
    groups = {n: replace(g, gid=None) if g.gid in gids else g for n, g in wishes.groups.items()}
    return Wishes(users=users, groups=groups, members=wishes.members)


def add(system: System, path: str, shadow: str, before: list[str], after: list[str], odd: list[str]) -> None:
    """Write a table and its shadow, if there is something new. Lines of the base say `x` only if its shadow is new."""
    new = after[len(before) :]
    if system.exists(shadow):
        hidden = system.kept_text(shadow)
        system.rewrite(shadow, ended(hidden) + lines([shadow_line(path, line) for line in new]))
        own = before if system.base and system.base.exists(shadow) else []
        after = [line if line in own else with_x(line) for line in after]
    if after != before:
        system.rewrite(path, lines([*after, *odd]))


def shadow_line(path: str, line: str) -> str:
    name, word, *rest = line.split(":")
    return f"{name}:{word}::{rest[1]}" if path == "/etc/group" else f"{name}:{word}:{SHADOW_DAY}:0:99999:7:::"


def ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
