"""What commands do: load the project, call an outcome, return a report."""
