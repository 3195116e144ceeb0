"""What happened: calls, incidents, repairs, deploys and checks, kept in SQLite or PostgreSQL."""
