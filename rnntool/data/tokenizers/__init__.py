"""The kinds of tokenizers. `rnntool.tokenize` learns and loads them."""
