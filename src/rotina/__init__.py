"""Rotina."""
