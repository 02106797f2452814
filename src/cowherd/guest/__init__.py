"""What is inside a disk: partitions, volumes, file systems, and which file owns a block.

The result is a `Chart`: which file or structure, or neither, owns each byte, and where the structures contradict each other.

A library lists a file system's files. A verdict needs more: which blocks are free, which belong to structures, and whether all
structures are of one state. For ext, XFS and btrfs, libraries show little of that, and those for XFS and btrfs are under the AGPL
(dissect.xfs, dissect.btrfs). Once the trees and bitmaps are read and checked, the directories are the smaller part, so code of
our own reads these. pytsk3, an optional extra, lists NTFS and FAT, and the volume's own bitmap or table is compared with that.

Logs: that of ext3 and ext4 is replayed in memory, so a `Volume` that shows replayed blocks in their place is read like any other.
Those of XFS and btrfs are not replayed; then the rest is not what a mount would show, and the reader says so in its `notes`.
"""
