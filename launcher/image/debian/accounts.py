"""Users and groups: Debian's fixed ones, and the system accounts that packages add.

Every file of an image belongs to 0:0, so an account's number matters to nobody; it only has to be the same each time.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from launcher.image.debian.facts import acts
from launcher.image.debian.shell import calls
from launcher.image.debian.system import System

FIRST_SYSTEM_ID, LAST_SYSTEM_ID = 100, 999
"""Policy 9.2.2: dynamically allocated system users and groups."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
NOLOGIN = "/usr/sbin/nologin"
SHADOW_DAY = 3652
"""The day of the last password change in days since 1970: 1980-01-01, so that it isn't the day of the build."""
WITH_VALUE = {"--home", "--shell", "--uid", "--gid", "--gecos", "--comment", "--ingroup", "--firstuid", "--lastuid"}


@dataclass(frozen=True, kw_only=True)
class Group:
    name: str
    gid: int | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class User:
    """`group` is the name of the primary group; `uid` None asks for a free number."""

    name: str
    uid: int | None = None
    group: str = "nogroup"
    comment: str = ""
    home: str = "/nonexistent"
    shell: str = NOLOGIN


@dataclass(kw_only=True)
class Wishes:
    """What packages ask for."""

    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    members: set[tuple[str, str]] = field(default_factory=set)  # (user, group)

    def user(self, user: User) -> None:
        if NAME.fullmatch(user.name) and ":" not in f"{user.comment}{user.home}{user.shell}":
            self.users.setdefault(user.name, user)

    def group(self, name: str, gid: int | None = None) -> None:
        if NAME.fullmatch(name):
            self.groups.setdefault(name, Group(name=name, gid=gid))


def accounts(system: System) -> None:
    """Write /etc/passwd and /etc/group, and /etc/shadow and /etc/gshadow where the package passwd is in the image."""
    if system.base is not None and system.exists("/etc/passwd"):
        return  # see added_accounts
    passwd = system.text("/usr/share/base-passwd/passwd.master")
    group = system.text("/usr/share/base-passwd/group.master")
    if passwd is None or group is None:
        return
    wishes = collect(system)
    groups = grouped(group, wishes)
    gids = {line.split(":")[0]: int(line.split(":")[2]) for line in groups}
    users = listed(passwd, wishes, gids)
    if "passwd" in system.packages:
        write_shadow(system, users, groups)
        users, groups = [with_x(line) for line in users], [with_x(line) for line in groups]
    system.write("/etc/passwd", lines(users))
    system.write("/etc/group", lines(groups))


def lines(texts: list[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def with_x(line: str) -> str:
    """Say that the password is in the shadow file (passwd(5))."""
    name, _, rest = line.split(":", 2)
    return f"{name}:x:{rest}"


def write_shadow(system: System, users: list[str], groups: list[str]) -> None:
    names = [line.split(":")[:2] for line in users]
    system.write("/etc/shadow", lines([f"{name}:{word}:{SHADOW_DAY}:0:99999:7:::" for name, word in names]), 0o640)
    hidden = [line.split(":") for line in groups]
    system.write("/etc/gshadow", lines([f"{line[0]}:{line[1]}::{line[3]}" for line in hidden]), 0o640)


def grouped(master: str, wishes: Wishes) -> list[str]:
    """Return the lines of /etc/group: the master's, then the packages' in order of their names."""
    rows = [line.split(":") for line in master.splitlines() if line]
    have = {row[0] for row in rows}
    taken = {int(row[2]) for row in rows} | {g.gid for g in wishes.groups.values() if g.gid is not None}
    for name in sorted(set(wishes.groups) - have):
        rows.append([name, "!", str(chosen(wishes.groups[name].gid, taken)), ""])
    for user, group in sorted(wishes.members):
        for row in rows:
            if row[0] == group:
                row[3] = ",".join(sorted({*filter(None, row[3].split(",")), user}))
    return [":".join(row) for row in rows]


def listed(master: str, wishes: Wishes, gids: dict[str, int]) -> list[str]:
    """Return the lines of /etc/passwd: the master's, then the packages' in order of their names."""
    rows = [line for line in master.splitlines() if line]
    have = {row.split(":")[0] for row in rows}
    taken = {int(row.split(":")[2]) for row in rows} | {u.uid for u in wishes.users.values() if u.uid is not None}
    for name in sorted(set(wishes.users) - have):
        user = wishes.users[name]
        gid = gids.get(user.group, gids.get("nogroup", 65534))
        rows.append(f"{name}:!:{chosen(user.uid, taken)}:{gid}:{user.comment}:{user.home}:{user.shell}")
    return rows


def chosen(wanted: int | None, taken: set[int]) -> int:
    """Return the wanted number, or the lowest free one."""
    if wanted is not None:
        return wanted
    free = next(number for number in range(FIRST_SYSTEM_ID, LAST_SYSTEM_ID + 1) if number not in taken)
    taken.add(free)
    return free


def collect(system: System) -> Wishes:
    """Gather what sysusers.d files, simple calls in postinst scripts and our own table ask for."""
    wishes = Wishes()
    for entry in filter(lambda entry: system.is_added(entry.path), system.below("/usr/lib/sysusers.d")):
        for line in (system.text(entry.path) or "").splitlines():
            read_sysusers(line, wishes)
    for name in sorted(system.packages):
        script = system.packages[name].script("postinst")
        for program in ("adduser", "addgroup", "groupadd"):
            for words in calls(script, program):
                read_call(program, words, wishes)
    for act in acts("group", system):
        wishes.group(act["name"])
    return wishes


def read_sysusers(line: str, wishes: Wishes) -> None:
    """Read one line of sysusers.d(5); lines with specifiers and ranges are passed over."""
    try:
        words = [*shlex.split(line, comments=True), *("-" for _ in range(6))] if "%" not in line else []
    except ValueError:  # a quote that never ends
        return
    kind, name, number = (words[0].rstrip("!"), words[1], words[2]) if len(words) > 6 else ("", "", "")
    uid, _, gid = number.partition(":")
    if kind == "g":
        wishes.group(name, int(number) if number.isdigit() else None)
    elif kind == "m":
        wishes.members.add((name, number))
    elif kind == "u":
        if not gid or gid.isdigit():
            wishes.group(name, int(gid or uid) if (gid or uid).isdigit() else None)
        own = name if not gid or gid.isdigit() else gid
        comment, home, shell = (word if word != "-" else "" for word in words[3:6])
        user = User(name=name, uid=int(uid) if uid.isdigit() else None, group=own, comment=comment)
        wishes.user(replace(user, home=home or "/", shell=shell or NOLOGIN))


def read_call(program: str, words: list[str], wishes: Wishes) -> None:
    """Read a call of adduser(8), addgroup(8) or groupadd(8) that makes a system account."""
    options, names = split_options(words)
    if program == "adduser" and len(names) == 2:
        wishes.members.add((names[0], names[1]))
    elif len(names) != 1 or not ({"--system", "-r"} & set(options)):
        return
    elif program != "adduser":
        wishes.group(names[0], number_of(options.get("--gid")))
    else:
        add_user(names[0], options, wishes)


def add_user(name: str, options: dict[str, str], wishes: Wishes) -> None:
    group = name if "--group" in options else options.get("--ingroup", "nogroup")
    if "--group" in options:
        wishes.group(name, number_of(options.get("--uid")))
    comment = options.get("--gecos") or options.get("--comment") or ""
    home, shell = options.get("--home", "/nonexistent"), options.get("--shell", NOLOGIN)
    uid = number_of(options.get("--uid"))
    wishes.user(User(name=name, uid=uid, group=group, comment=comment, home=home, shell=shell))


def number_of(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def split_options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Separate options from names; an option's value follows it or its `=`."""
    options, names = {}, []
    rest: Iterator[str] = iter(words)
    for word in rest:
        key, _, value = word.partition("=")
        if not word.startswith("-"):
            names.append(word)
        else:
            options[key] = value or (next(rest, "") if word in WITH_VALUE else "")
    return options, names
