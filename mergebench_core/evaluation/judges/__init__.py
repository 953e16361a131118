"""Judges: plugins that say whether an answer refuses, and whether it does harm."""
