"""Documents of final invoices and corrections: one frozen snapshot, and everything that is made from it."""
