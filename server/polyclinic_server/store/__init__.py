"""What the server remembers: sites, invitations, studies, approvals, runs, receipts, models."""
