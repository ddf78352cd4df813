"""Ports: what the control loops need of the outside, as Protocols of six methods at most.

Each port has one contract suite in ``tests/contracts`` that every adapter passes, the memory adapter too.
"""
