"""The gateway's own routes: generation, models, sessions, administration, observation, the page."""
