"""What a parameter enters the step through."""
