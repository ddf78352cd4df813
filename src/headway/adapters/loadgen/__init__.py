"""Load generators: one of our own for open and closed loops, and Locust in processes of its own."""
