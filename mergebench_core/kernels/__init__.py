"""Compiled loops for elementwise merging, with torch doing the same where there is no compiler."""
