"""Merging anybody's models into a folder that transformers loads: no track, no evaluation."""
