"""The model server: runs beside the user's code, in the user's environment, and speaks HTTP.

A request's way: :mod:`.protocol` (bytes to requests) -> :mod:`.app` (routes) -> a codec of :mod:`.codecs`
(rows) -> :mod:`.predictor` (queue, batches) -> :mod:`.execution` (the user's ``predict``) -> the codec again ->
:mod:`.protocol`. A process's way: :mod:`.boot` -> :mod:`.loading` -> :mod:`.listener`. What a runtime tells it:
:mod:`.config`. Depends on the standard library, msgspec, httptools, uvloop where there is one, and on
``headway.domain.errors`` and ``names``; numpy and pandas are used only where the user's environment has them.
"""
