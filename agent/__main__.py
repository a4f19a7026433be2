"""``python -m agent``: started by a Pi, never by hand."""

import sys

from agent.main import main

sys.exit(main())
