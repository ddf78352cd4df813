"""Domain: what Headway talks about. Pure: no I/O, no clock, no randomness.

The package root imports nothing: the model server needs ``errors`` and ``names`` only and must not
pay for pydantic.
"""
