"""What each store is in the Prefect UI: its fields, its form and its help."""
