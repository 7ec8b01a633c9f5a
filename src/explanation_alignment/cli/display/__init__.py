"""What commands print: tables for people at a hundred columns, and whole tables for machines."""
