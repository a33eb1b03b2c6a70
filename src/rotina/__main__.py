"""`python -m rotina` is the `rotina` command."""

from rotina.cli import main

main()
