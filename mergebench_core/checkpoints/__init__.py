"""Checkpoints as safetensors: stream, validate, digest, write; thresholds of task vectors."""
