"""What others handed in, judged: spreadsheets, and one report for all."""
