"""The staging file: what Dynamics holds, what Campaign is known to hold, and what differs."""
