"""Results that were measured elsewhere, read from the output of the released MergeBench scripts."""
