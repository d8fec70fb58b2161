"""Columns to states, and states to the losses and answers of every task."""
