"""What may be wrong with a shop's tables, a file a kind."""
