"""A run and a database to a server: events in, answers out."""
