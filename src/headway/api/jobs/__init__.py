"""The two HTTP faces of a job server: callers' (JSON, behind the gateway) and workers' (MessagePack).

Both are plain ASGI: thousands of submissions a second come in here, so nothing stands between the request's bytes and
the service but what a submission needs.
"""
