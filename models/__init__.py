"""The smoke model of the stack: its facts and questions, its training script and the trained files."""
