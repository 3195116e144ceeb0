"""Build real adapters from configuration."""
