"""Sweeps: from what a spec says to points, each one set of parameters. Pure."""
