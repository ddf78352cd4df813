"""The endpoints, one module per resource; each offers ``add_routes(api, parts)``."""
