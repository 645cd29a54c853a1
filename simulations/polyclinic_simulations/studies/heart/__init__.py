"""UCI heart disease at four hospitals."""
