"""Engines: a model in memory whose weights are replaced in place, behind one interface."""
