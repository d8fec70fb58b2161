"""`python -m daogou` is the same as `daogou`."""

from daogou.cli import main

main()
