"""Business agents of this project."""
