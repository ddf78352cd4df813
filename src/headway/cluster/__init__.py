"""What a deployment is on Kubernetes: from documents to objects, as plain data. Nothing here talks to a cluster.

Objects are JSON as the API takes it, whole and deterministic: equal input gives equal objects, so who applies them can
compare first and write nothing where nothing has changed.
"""
