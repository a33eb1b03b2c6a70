"""Business processes of this project."""
