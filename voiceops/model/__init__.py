"""The nouns of voiceops: plain data, no I/O, imports nothing but the standard library and msgspec."""
