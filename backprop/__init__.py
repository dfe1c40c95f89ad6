"""The classroom network, its gradients by hand, and the spreadsheet."""
