"""The only place that changes weights. Returns documents, draws nothing."""
