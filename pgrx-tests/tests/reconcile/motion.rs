//! What is on its way is not missed.
