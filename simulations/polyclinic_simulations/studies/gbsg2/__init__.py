"""German Breast Cancer Study Group 2 over twelve made-up hospitals."""
