"""What all tests share. The database is DATABASE_URL's server, else the embedded one, which the
engine of the settings starts at the first connection."""
