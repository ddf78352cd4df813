"""``make bench-server``: Headway's model server beside its peers, on one core, in one sitting.

Every *visit* starts one server on core 0, times its cold start, checks its answers, loads it with wrk from core 1
at 1 and at 64 connections, weighs it and stops it. Visits go round robin over the servers, so that a machine that
slows down for a minute slows all of them. What counts are ratios of visits of the same round.
"""
