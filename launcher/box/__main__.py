"""`python -I -m launcher.box RUNFOLDER`: the host side of one run, started by launcher.box.keeping."""

from launcher.box.main import main

main()
