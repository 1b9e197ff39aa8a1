"""Sweeps: from what a spec says to points, each one set of parameters. Pure."""

from launcher.sweep.expanding import expand, refuse_overrides, size, with_point
from launcher.sweep.model import Point

__all__ = ["Point", "expand", "refuse_overrides", "size", "with_point"]
