from __future__ import annotations

import sys

from services.events.kibana.content import text

if __name__ == "__main__":
    sys.stdout.write(text())
