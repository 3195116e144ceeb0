"""Tell people what the monitor can't repair: what to tell, to whom, and that it is over."""
