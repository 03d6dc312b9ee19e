"""`python -m mrovseg_nb` is the command `mrovseg`."""
import sys

from mrovseg_nb.app.cli import main

if __name__ == '__main__': sys.exit(main())
