"""The inventory: groups, hosts, patterns, listing."""
