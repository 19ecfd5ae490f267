//! From a row's values to the JSON record that leaves the database. Nothing here knows PostgreSQL.
