"""The herd book: what a host knows of its herds, and so where an image's dependents are looked for.

`config` holds the herds that a person named, `memory` where overlays were found before, `surroundings` where they may lie when
nobody has named a place; `places` puts them together for one search, and `notes` keeps what was looked at for later questions.
"""
