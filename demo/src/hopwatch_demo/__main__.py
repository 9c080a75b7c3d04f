"""`python -m hopwatch_demo`."""

from hopwatch_demo.cli import main

main()
