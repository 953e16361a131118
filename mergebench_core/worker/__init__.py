"""The process that runs a method, and the host's side of the conversation with it."""
