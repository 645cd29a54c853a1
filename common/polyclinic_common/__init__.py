"""What every part of Polyclinic agrees on: studies, data contracts, models, privacy, messages."""
