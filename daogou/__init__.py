"""Daogou: one jointly trained multi-task model for a shop."""
