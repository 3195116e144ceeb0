"""What runs on hosts, and the one file in which it travels."""
