"""Inputs of runs: where they come from, what they are pinned by, and this machine's cache of them."""
