"""What there is to see: figures and pictures of trainings and of what networks hold. Knows no command."""
