"""Personal data: found in what a conversation holds, and taken out of it before it is kept, sent or shown."""
