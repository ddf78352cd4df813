"""Comparing two versions of a model: evidence that may be looked at as often as one likes. Pure.

Everything stands on confidence sequences: intervals, one for every number of observations, that all hold together with
the stated probability. So it does not matter how often they are looked at, or when somebody stops. A look after every
request makes an ordinary 95 % interval wrong sooner or later; of these at most 5 % are ever wrong.
"""
