"""Where settings come from: YAML with line numbers, variable files, .env, templates."""
