"""What a person types and sees: arguments, tables, progress and JSON; no logic."""

from __future__ import annotations

import os

# numpy's linear algebra, which nothing here uses, starts a thread for every further processor as soon as numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
