"""The embedded default: PostgreSQL, Valkey and two small models from wheels, one supervisor."""
