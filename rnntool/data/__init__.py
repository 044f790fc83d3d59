"""Text in and out: streams, formats, records, labels, tokenizers."""
