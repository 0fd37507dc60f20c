"""What a changed deployment asks of a running stack: the steps, and why. Pure arithmetic."""
