"""Inspects an untrusted image strictly: named checks at bounded cost, which never open another file."""

from __future__ import annotations
