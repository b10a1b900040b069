//! Links between arrays.
