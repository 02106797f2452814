"""What the documents of `--json` hold, declared once, as types; the page about them and their JSON Schema are made from these.

Each key of a document is a line of a class, with its meaning behind `#:`. No command loads these modules; `commands.py` says
which documents a command has.
"""
