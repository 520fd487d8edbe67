"""What whole clients cost, one and many."""
