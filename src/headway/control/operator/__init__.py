"""The operator: what keeps the objects of a cluster as ModelDeployments say."""
