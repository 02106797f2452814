"""The image service under load, killed at random moments: what it acknowledged must be there afterwards, and nothing else.

`python -m tests.service.load` runs it at length; a short form is among the tests.
"""
