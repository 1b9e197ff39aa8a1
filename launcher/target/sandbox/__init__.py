"""The sandbox: containers by user namespaces alone, for root and for an ordinary user, with nothing installed."""
