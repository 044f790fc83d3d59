"""What runs a network: named NumPy arrays in, named NumPy arrays out, whichever engine it is."""
