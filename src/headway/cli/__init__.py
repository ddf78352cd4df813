"""The command line: a user of the REST API through :mod:`headway.client`, and the way to start and stop it all.

Ordinary commands import neither FastAPI nor SQLAlchemy, so that they answer at once.
"""
