"""python -m tests.attacks: what strangers' files and requests try, on the command line and on the page."""

import sys

from tests.attacks import command_line, page

if __name__ == "__main__":
    sys.exit(not all([command_line.main(), page.main()]))
