"""`python -m phasewatt_testbed` is `phasewatt-testbed`."""

from phasewatt_testbed.cli import main

main()
