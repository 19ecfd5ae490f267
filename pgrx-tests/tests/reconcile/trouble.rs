//! Algolia out of reach, keys without rights, workers that die.
