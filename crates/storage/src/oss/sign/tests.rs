//! Against vectors that the official clients made; see `tests/data/make_vectors.py`.
