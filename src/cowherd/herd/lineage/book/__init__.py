"""The herd book: what a host knows of its herds, and so where an image's dependents are looked for.

`config` holds the herds that somebody named, `memory` where overlays were found before, `surroundings` where they may lie when
nobody has said anything; `places` puts them together for one question, and `notes` keeps what was looked at for who asks.
"""
