"""What earlier scans found out, kept for later ones: a cache that can be thrown away at any time.

`docs/guard.md` says what users can rely on. Decided besides, and why:

- One record holds a whole directory, with a checksum over itself, since SQLite has none over its pages: a flipped bit has the
  files of one directory read, and never makes a wrong fact. Where anything changed, the record is written anew. Of two processes
  that write one at once the later wins, which costs the other's files another reading.
- The name of the file has the version of its layout, so that two versions of cowherd don't throw away each other's.
- It is apart from the herd book: the book says where to look and is used for every herd, the catalog only saves reading headers.
"""
