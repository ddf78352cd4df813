"""Headway publishes a Python or R model as a production REST API and keeps it fast.

This package root imports nothing, so that the model server starts in milliseconds inside a
user's environment. Start reading at ``docs/explanation/architecture.md``.
"""

__version__ = "0.1.0"
