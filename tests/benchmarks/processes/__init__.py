"""What processes cost, beside bare trio."""
