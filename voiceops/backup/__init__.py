"""Back up the data of services, check each backup, and restore it."""
