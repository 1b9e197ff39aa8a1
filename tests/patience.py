"""How long tests wait before they call something hung: on a machine with other work to do, all takes its time."""

from __future__ import annotations

PATIENCE = 4  # how much longer than on an idle machine
LONG_S = 300  # for what ends by itself, and would otherwise hold up everything behind it
