"""What is sent: scenarios, prompts of an exact number of tokens, conversations."""
