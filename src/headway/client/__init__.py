"""The Python client: everything that the command line can do, typed.

>>> from pathlib import Path
>>> from headway.client import Client
>>> with Client() as headway:  # doctest: +SKIP
...     headway.deploy(Path("iris"))
...     headway.predict("iris", b"[[5.1, 3.5, 1.4, 0.2]]")

It talks to the REST API and to nothing else, so it can do nothing that others could not do over HTTP. ``discovery``
finds the installation, ``documents`` and ``pack`` turn a folder into a document and a bundle, ``connection`` and
``wire`` carry requests and answers, ``rollout`` follows what was asked for to its end.
"""

from headway.client.client import Client
from headway.client.progress import Progress

__all__ = ["Client", "Progress"]
