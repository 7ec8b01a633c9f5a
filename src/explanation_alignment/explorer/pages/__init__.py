"""The pages: each a function from the runs and an address to what its template is filled with."""
