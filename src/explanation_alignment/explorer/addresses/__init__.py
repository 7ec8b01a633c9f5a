"""What the addresses of the pages mean: read strictly, written in one order, without what is usual."""
