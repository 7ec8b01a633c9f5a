"""Whether a dataset is what it should be: problems, counts, a sheet of annotated images."""
