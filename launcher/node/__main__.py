"""`python -m launcher.node ORDER [--step K] [--debug]`, run by the batch script of a task."""

from launcher.node.main import main

main()
