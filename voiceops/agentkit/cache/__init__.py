"""A cache shared by the jobs of one worker."""
