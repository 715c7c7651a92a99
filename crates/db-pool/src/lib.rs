//! PostgreSQL: deadpool-postgres made safe for services that scale by themselves.
