"""What is remembered: one file for each rule."""
