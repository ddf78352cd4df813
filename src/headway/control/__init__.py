"""Control: the loops that move what is towards what is wished, through ports only.

``commands`` and ``rollout`` are pure: they take a deployment and ``now`` and give the next one with the
events that tell of the change. ``reconciler`` observes, asks them, and acts.
"""
