"""Targets: where jobs run."""
