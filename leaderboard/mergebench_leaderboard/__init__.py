"""The leaderboard's page: reads a snapshot of the store, shows it with Gradio. Never loads torch."""
