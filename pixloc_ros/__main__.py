"""`python -m pixloc_ros COMMAND`."""

import sys

from pixloc_ros.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
