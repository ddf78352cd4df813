"""Kubernetes: the API server of a cluster, over HTTP. Needs the extra ``headway[kubernetes]``."""
