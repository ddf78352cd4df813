"""The control REST API: what the CLI, the Python client and the dashboard talk to.

``app.create_app`` puts it together; ``server.create_server`` serves it. Every request passes, in this order:

1. ``boundary``: whatever happens further in becomes an answer in the error tree's JSON form;
2. ``hosts``: a ``Host`` that this listener does not have is refused (DNS rebinding);
3. ``access``: no valid token, no further;
4. the route (``routes``, by resource), after ``bodies`` has checked query and body.
"""
