"""What the benchmarks of jobs are made of: real services, peers, and Headway's own ends."""
