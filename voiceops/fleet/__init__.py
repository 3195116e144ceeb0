"""Many hosts: order by needs and batches."""
