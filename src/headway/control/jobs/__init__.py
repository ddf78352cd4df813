"""Jobs: taken in, handed to workers, looked after, told of. What is true of a job is in its store, nowhere here."""
