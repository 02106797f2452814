"""Writes to sealed images, noticed as they happen: who wrote, and whom it hits. Everything is also read again now and then.

Decided, and why:

- Nothing waits for the watch. Permission events would name every writer for certain, and hang every open while the watch does.
  Instead a process is looked at when it opens a watched file, so that one that writes and ends at once still has a name.
- The judgement is by content. An alarm says what happened at once; the event after it says whether it is drift, from the seal,
  read anew, and the blocks. So a merge, a new seal or a repair needs no word to the watch: a running merge's journal, or
  cowherd as the writer, only holds the alarm back until the files are found to be other than the seal says.
- All reading shares one token bucket, charged as the digests progress and stopped by the same call: hence an end within a second.
- fanotify is called by ctypes. Of the packages that there are, pyfanotify is under the GPL, needs a compiler, and knows no file
  handles, so that it tells no renames and removals. The extra `watch` has inotify_simple and prometheus_client; the watch as
  root needs neither.
"""
