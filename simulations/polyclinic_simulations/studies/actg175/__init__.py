"""AIDS Clinical Trials Group study 175 over eight made-up hospitals."""
