//! From claimed rows to an answer of Algolia: batches, hosts, attempts and what their outcome means.
//! Nothing here knows PostgreSQL.
