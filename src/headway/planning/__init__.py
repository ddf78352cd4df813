"""Planning: from measured points to a capacity plan. Pure: no I/O, no clock, and randomness only from a seed given.

`measured` says what a point is, `service` what is believed of a service, `simulate` how that service answers under a
load, `fit` which belief the points speak for, `usl` the other candidate, `capacity` turns it round: what is
needed for a load, what a number of replicas can carry. `search` says what to measure next.
"""
