"""The entries of a report, a file a family of tasks."""
