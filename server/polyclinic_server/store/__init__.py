"""What the server remembers: sites, invitations, studies, approvals, runs, models, bundles."""
