"""Training of specialists: the paper's data and recipe, and the one trainer that both tracks go through."""
