"""Documents to what a person reads: tables in the terminal."""
