"""What every task stands on."""
