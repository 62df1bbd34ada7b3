"""`python -m graft`, where the command is not on the path."""

from graft.cli import main

main()
