"""The kinds of tokenizers. `rnntool.tokenize` trains and loads them."""
