"""Prototypes of Headway's HTTP layer on libraries: the same application, model, log and limits on each.

They exist to be measured beside :mod:`headway.server.protocol`, the layer that was chosen; the reasons are in
``docs/decisions/0006-http-layer.md``.
"""
