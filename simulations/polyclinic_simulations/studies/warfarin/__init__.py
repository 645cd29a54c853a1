"""Synthetic twin of the warfarin consortium: nobody in it is real."""
