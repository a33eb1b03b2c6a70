"""Tests of this project; they need no server."""
