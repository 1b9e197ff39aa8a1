"""The rules in their order: each does, by explicit steps on the tree, what maintainer scripts would have done."""

from __future__ import annotations

from collections.abc import Callable

from launcher.image.debian.accounts import accounts
from launcher.image.debian.added_accounts import added_accounts
from launcher.image.debian.alternatives import alternatives
from launcher.image.debian.certificates import certificates
from launcher.image.debian.dpkg_database import dpkg_database
from launcher.image.debian.graphviz import graphviz_plugins
from launcher.image.debian.linker import linker_cache
from launcher.image.debian.pam import pam_stacks
from launcher.image.debian.skeleton import python_folders, shells, skeleton
from launcher.image.debian.system import System

Rule = Callable[[System], None]

RULES: tuple[Rule, ...] = (
    skeleton,
    python_folders,
    shells,
    accounts,
    added_accounts,
    pam_stacks,
    certificates,
    alternatives,
    linker_cache,
    graphviz_plugins,
    dpkg_database,
)
