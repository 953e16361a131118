"""The item sets and tasks of the track, one module per domain and one for generalization."""
