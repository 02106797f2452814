"""What b3sum does: the BLAKE3 digest of a file, read through mapped memory, on all cores.

python hash_blake3.py FILE
"""

from __future__ import annotations

import sys

from blake3 import blake3

hasher = blake3(max_threads=blake3.AUTO)
hasher.update_mmap(sys.argv[1])
print(hasher.hexdigest(), "", sys.argv[1])
